"""Reading callgrind's calls, and what of them is a launch."""

import unittest

import launches

PROFILE = """\
fn=(1) main
16 400
cfn=(2) atg_mm
calls=3 0
16 90
cfn=(3) atg_t
calls=2 0
16 4
fn=(4) other
cob=(2)
cfn=(2)
calls=4 0
17 120
cfn=(1)
calls=1 0
1 2
"""


class LaunchesTest(unittest.TestCase):
    def test_calls_are_summed_over_callers_though_a_name_stands_once(self):
        self.assertEqual(launches.calls(PROFILE.splitlines()), {"atg_mm": 7, "atg_t": 2, "main": 1})

    def test_views_and_what_is_no_operation_are_no_launches(self):
        self.assertEqual([launches.is_launch(name) for name in ("atg_mm", "atg_t", "at_copy_data", "main")], [True, False, False, False])


if __name__ == "__main__":
    unittest.main()
