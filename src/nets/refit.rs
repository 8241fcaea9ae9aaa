use super::layer::{Kind, Part};
use super::{DenseState, Layout, TensorLayout};

/// Where each input of the configured nets stood among those of saved ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputPlaces {
    /// One per input of the configured nets; `None` for one that the saved nets had not.
    pub places: Vec<Option<usize>>,
    /// Inputs of the saved nets.
    pub saved: usize,
}

impl InputPlaces {
    /// Every input stands where it stood, and there are no others.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.places.len() == self.saved && self.places.iter().enumerate().all(|(input, place)| *place == Some(input))
    }

    /// Of an axis of a tensor that runs over the inputs and, behind them, over what attention adds.
    fn along(&self, length: usize, saved_length: usize) -> Vec<Option<usize>> {
        let behind = |index: usize| Some(index - self.places.len() + self.saved).filter(|place| *place < saved_length);
        (0..length).map(|index| self.places.get(index).copied().unwrap_or_else(|| behind(index))).collect()
    }
}

/// A state made of another one.
#[derive(Debug, Clone, PartialEq)]
pub struct Refitted {
    /// It fits the configured nets.
    pub state: DenseState,
    /// Tensors that start afresh.
    pub fresh: Vec<String>,
    /// Tensors of the saved nets that have no place any more.
    pub left: Vec<String>,
}

/// The state of nets of `layout` that goes on from `saved` as far as it fits, and is `start` (a state of `layout`) elsewhere. Tensors are found
/// by name, the inputs within them by `inputs`; hidden layers of another width start afresh, and so do attention units if inputs have moved.
#[must_use]
pub fn refit(layout: &Layout, start: DenseState, saved: &DenseState, inputs: &InputPlaces) -> Refitted {
    let mut refitted = Refitted { state: DenseState { steps: saved.steps, ..start }, fresh: Vec::new(), left: Vec::new() };
    let axes = layout.input_axes();
    let mut into = 0;
    for (tensor, over_inputs) in layout.tensors().iter().zip(axes) {
        let length = floats(tensor);
        let attends = tensor.name.contains(".attention.") && !inputs.is_identity();
        let moves = place_of(saved, &tensor.name).filter(|_| !attends).and_then(|(found, from)| {
            let rows = axis(tensor, found, 0, over_inputs, inputs)?;
            let columns = if tensor.shape.len() > 1 { axis(tensor, found, 1, over_inputs, inputs)? } else { vec![Some(0)] };
            let width = found.shape.get(1).copied().unwrap_or(1);
            let place = |(row, column): (&Option<usize>, &Option<usize>)| Some(from + (*row)? * width + (*column)?);
            Some(rows.iter().flat_map(|row| columns.iter().map(move |column| place((row, column)))).collect::<Vec<_>>())
        });
        match moves {
            None => refitted.fresh.push(tensor.name.clone()),
            Some(moves) => {
                let DenseState { params, m, v, .. } = &mut refitted.state;
                for (target, source) in [(params, &saved.params), (m, &saved.m), (v, &saved.v)] {
                    for (value, place) in target[into..into + length].iter_mut().zip(&moves) {
                        if let Some(saved) = place.and_then(|place| source.get(place)) {
                            *value = *saved;
                        }
                    }
                }
            }
        }
        into += length;
    }
    let expected = layout.tensors();
    let unknown = saved.layout.iter().filter(|found| expected.iter().all(|tensor| tensor.name != found.name));
    refitted.left = unknown.map(|found| found.name.clone()).collect();
    refitted
}

fn floats(tensor: &TensorLayout) -> usize {
    tensor.shape.iter().product()
}

/// A saved tensor and where it begins.
fn place_of<'a>(saved: &'a DenseState, name: &str) -> Option<(&'a TensorLayout, usize)> {
    let index = saved.layout.iter().position(|tensor| tensor.name == name)?;
    Some((&saved.layout[index], saved.layout[..index].iter().map(floats).sum()))
}

/// Where each index of an axis stood; `None` where the axis is another one.
fn axis(
    tensor: &TensorLayout,
    found: &TensorLayout,
    axis: usize,
    over_inputs: &[usize],
    inputs: &InputPlaces,
) -> Option<Vec<Option<usize>>> {
    let (length, saved) = (*tensor.shape.get(axis)?, *found.shape.get(axis)?);
    if found.shape.len() != tensor.shape.len() {
        return None;
    }
    if over_inputs.contains(&axis) {
        let same_behind = length.checked_sub(inputs.places.len()) == saved.checked_sub(inputs.saved);
        return (same_behind && saved >= inputs.saved).then(|| inputs.along(length, saved));
    }
    (length == saved).then(|| (0..length).map(Some).collect())
}

impl Layout {
    /// Of every tensor, in the order of [`Layout::tensors`], the axes that run over the input vector.
    fn input_axes(&self) -> Vec<&'static [usize]> {
        let has_trunk = self.layers.iter().any(|layer| layer.part == Part::Shared);
        let mut axes = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let mut below = self.layers[..index].iter().filter(|below| below.part == layer.part);
            let is_lowest = !below.any(|below| matches!(below.kind, Kind::Hidden(_)));
            let reads_inputs = is_lowest && (layer.part == Part::Shared || !has_trunk);
            axes.extend(layer.tensors().enumerate().map(|(tensor, _)| -> &'static [usize] {
                match (reads_inputs, layer.kind, tensor) {
                    (true, Kind::Cross, 0) => &[0, 1],
                    (true, Kind::Cross, _) | (true, Kind::Hidden(_) | Kind::Output, 0) => &[0],
                    _ => &[],
                }
            }));
        }
        axes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{BoosterCrossConfig, Heads, ModelConfig};

    fn layout(shared: &[usize], light: usize, inputs: usize) -> Layout {
        let model = ModelConfig {
            shared: shared.to_vec(),
            light: vec![light],
            booster: vec![3],
            booster_cross: BoosterCrossConfig { layers: 1 },
            control: false,
            ..ModelConfig::default()
        };
        Layout::new(&model, Heads::Both, inputs)
    }

    /// Every float tells its own place, moments likewise.
    fn numbered(layout: &Layout, from: f32) -> DenseState {
        let params: Vec<f32> = (0..layout.len()).map(|place| from + place as f32).collect();
        let scaled = |factor: f32| params.iter().map(|value| value * factor).collect();
        DenseState { layout: layout.tensors(), m: scaled(2.0), v: scaled(3.0), steps: from as u64, params }
    }

    fn tensor(state: &DenseState, name: &str) -> Vec<f32> {
        let (tensor, from) = place_of(state, name).unwrap();
        state.params[from..from + floats(tensor)].to_vec()
    }

    #[test]
    fn the_same_nets_go_on_bit_by_bit() {
        let layout = layout(&[4], 2, 3);
        let saved = numbered(&layout, 100.0);
        let places = InputPlaces { places: (0..3).map(Some).collect(), saved: 3 };
        assert!(places.is_identity());
        let refitted = refit(&layout, numbered(&layout, 900.0), &saved, &places);
        assert_eq!(refitted, Refitted { state: saved, fresh: Vec::new(), left: Vec::new() });
    }

    #[test]
    fn inputs_are_found_where_they_stood() {
        let (before, after) = (layout(&[2], 2, 3), layout(&[2], 2, 4));
        let (saved, start) = (numbered(&before, 100.0), numbered(&after, 900.0));
        // The last stands first now, the first is gone, two are new.
        let places = InputPlaces { places: vec![Some(2), None, Some(1), None], saved: 3 };
        let refitted = refit(&after, start.clone(), &saved, &places);
        assert_eq!((refitted.fresh.len(), refitted.left.len()), (0, 0));
        let (old, new) = (tensor(&saved, "shared.0.weight"), tensor(&start, "shared.0.weight"));
        let expected = [&old[4..6], &new[2..4], &old[2..4], &new[6..8]].concat();
        assert_eq!(tensor(&refitted.state, "shared.0.weight"), expected);
        for kept in ["shared.0.bias", "light.0.weight", "booster.cross.0.weight", "booster.1.bias"] {
            assert_eq!(tensor(&refitted.state, kept), tensor(&saved, kept), "{kept}");
        }
        let moment = refitted.state.m[0];
        assert_eq!(moment, 2.0 * refitted.state.params[0]);
        assert_eq!(refitted.state.steps, saved.steps);
        assert!(refitted.state.check(&after).is_ok());
    }

    #[test]
    fn cross_layers_over_the_inputs_move_in_both_directions() {
        let (before, after) = (layout(&[], 2, 2), layout(&[], 2, 2));
        let saved = numbered(&before, 100.0);
        let places = InputPlaces { places: vec![Some(1), Some(0)], saved: 2 };
        let refitted = refit(&after, numbered(&after, 900.0), &saved, &places);
        let old = tensor(&saved, "booster.cross.0.weight");
        assert_eq!(tensor(&refitted.state, "booster.cross.0.weight"), [old[3], old[2], old[1], old[0]]);
        let old = tensor(&saved, "booster.cross.0.bias");
        assert_eq!(tensor(&refitted.state, "booster.cross.0.bias"), [old[1], old[0]]);
    }

    #[test]
    fn a_layer_of_another_width_starts_afresh_and_one_that_is_gone_is_named() {
        let (before, after) = (layout(&[2, 2], 2, 3), layout(&[2], 5, 3));
        let saved = numbered(&before, 100.0);
        let places = InputPlaces { places: (0..3).map(Some).collect(), saved: 3 };
        let start = numbered(&after, 900.0);
        let refitted = refit(&after, start.clone(), &saved, &places);
        assert_eq!(refitted.fresh, ["light.0.weight", "light.0.bias", "light.1.weight"]);
        assert_eq!(refitted.left, ["shared.1.weight", "shared.1.bias"]);
        assert_eq!(tensor(&refitted.state, "light.0.weight"), tensor(&start, "light.0.weight"));
        assert_eq!(tensor(&refitted.state, "shared.0.weight"), tensor(&saved, "shared.0.weight"));
    }
}
