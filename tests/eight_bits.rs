//! Promise: scores in 8 bits are near those in floats, as near as was asked for on the version's own probes; where they would not be, and where
//! nothing can be said, scores are those in floats, bit by bit.

mod serving_support;

use rocket_launching::config::{Activation, HiddenConfig};
use rocket_launching::serving::ServedModel;
use rocket_launching::wire::EventDecoder;
use rocket_launching::wire::snapshot::{Probe, field_to_json};
use serving_support::every_kind::{request, snapshot};
use serving_support::{Snapshot, TIME};

/// Far from what is seen, and from what would do harm.
const ERROR_MAX: f32 = 0.05;

fn scores(model: &ServedModel) -> Vec<f32> {
    let (context, candidates) = request();
    model.score(TIME, &context, &candidates).expect("good columns")
}

/// With the request's candidates as probes.
fn probed(hidden: HiddenConfig) -> Snapshot {
    let mut snapshot = snapshot(hidden);
    let (context, candidates) = request();
    let decoder = EventDecoder::new(&snapshot.manifest.schema);
    let logits = scores(&snapshot.open()).into_iter().map(|score| (score / (1.0 - score)).ln());
    let probe = |(candidate, logit): (&_, f32)| {
        let fields = decoder.fields(&context, candidate).expect("good columns");
        Probe { time_ms: TIME.0, fields: fields.iter().map(field_to_json).collect(), logit, tolerance: 1e-3 }
    };
    snapshot.manifest.probes = candidates.iter().zip(logits).map(probe).collect();
    snapshot
}

#[test]
fn scores_move_no_farther_than_probes_said() {
    for activation in [Activation::Relu, Activation::Prelu, Activation::Dice] {
        for layer_norm in [false, true] {
            let floats = probed(HiddenConfig { layer_norm, activation }).open();
            assert_eq!(floats.eight_bits_error(), None);
            let bytes = floats.clone().in_eight_bits(ERROR_MAX);
            let error = bytes.eight_bits_error().unwrap_or_else(|| panic!("{activation:?}, LayerNorm {layer_norm}: too far off"));
            assert!(error > 0.0, "nothing was rounded");
            // The candidates are the probes; a probability moves by a quarter of what its logit does at most.
            for (found, expected) in scores(&bytes).iter().zip(scores(&floats)) {
                assert!((found - expected).abs() <= error / 4.0 + 1e-5, "{found} instead of {expected}, {error} allowed");
            }
        }
    }
}

#[test]
fn where_it_would_be_too_far_off_scores_are_those_in_floats() {
    let floats = probed(HiddenConfig::default()).open();
    let error = floats.clone().in_eight_bits(ERROR_MAX).eight_bits_error().expect("near enough");
    for error_max in [error * 0.99, 0.0, -1.0, f32::NAN] {
        let model = floats.clone().in_eight_bits(error_max);
        assert_eq!((model.eight_bits_error(), scores(&model)), (None, scores(&floats)), "{error_max}");
    }
}

#[test]
fn without_probes_or_layers_between_scores_are_those_in_floats() {
    let unprobed = snapshot(HiddenConfig::default()).open();
    // One hidden layer: it is the first.
    let shallow = Snapshot::new(1).open();
    for model in [unprobed, shallow] {
        assert_eq!(model.in_eight_bits(ERROR_MAX).eight_bits_error(), None);
    }
}
