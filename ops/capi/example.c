/* Scores two candidates with the model that a topic, or a cache on disk, holds.
 *
 *   folder=$(ops/capi/build --release)
 *   cc -Iops/capi ops/capi/example.c -L"$folder" -lrocket_launching -o example
 *   LD_LIBRARY_PATH=$folder ./example MODEL BROKERS CACHE_DIR CONTEXT CANDIDATES TIME_MS
 */
#include <stdio.h>
#include <stdlib.h>

#include "rocket.h"

enum { ROOM = 5000, WAIT_MS = 60000 };

static int fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, rocket_last_error());
    return 1;
}

int main(int argc, char **argv) {
    if (argc != 7) {
        fprintf(stderr, "usage: %s MODEL BROKERS CACHE_DIR CONTEXT CANDIDATES TIME_MS\n", argv[0]);
        return 64;
    }
    rocket_scorer *scorer = rocket_open(argv[1], argv[2], NULL, NULL, argv[3], NULL);
    if (scorer == NULL) return fail("open");
    if (rocket_wait(scorer, WAIT_MS) != 1) return fail("wait");

    static float scores[ROOM];
    uint64_t version = 0;
    int64_t count = rocket_score(scorer, argv[4], argv[5], atoll(argv[6]), scores, ROOM, &version);
    if (count < 0) return fail("score");
    printf("%llu\n", (unsigned long long)version);
    for (int64_t i = 0; i < count; i++) printf("%.9g\n", scores[i]);

    /* Every refusal is an answer with a reason, never a crash. */
    if (rocket_score(scorer, "{", "[]", 0, scores, ROOM, NULL) != -1) return 1;
    fprintf(stderr, "%s\n", rocket_last_error());
    if (rocket_score(scorer, "{}", "[{}]", 0, NULL, 0, NULL) != -1) return 1;
    if (rocket_score(NULL, "{}", "[]", 0, scores, ROOM, NULL) != -1) return 1;
    if (rocket_open(NULL, "", NULL, NULL, "", NULL) != NULL) return 1;

    char *status = rocket_status(scorer);
    if (status == NULL) return fail("status");
    fprintf(stderr, "%s\n", status);
    rocket_free_text(status);
    rocket_close(scorer);
    rocket_close(NULL);
    return 0;
}
