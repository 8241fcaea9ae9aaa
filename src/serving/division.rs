use super::net::{LightNet, Part};
use crate::features::{FeatureSpec, Side};
use crate::wire::{EventDecoder, ObjectColumns};

/// A net's inputs, by what they depend on where candidates bear certain columns.
#[derive(Debug, Default)]
pub(super) struct Division {
    /// Whether each column of the schema is the candidates'.
    own: Vec<bool>,
    /// What the candidates of a request share.
    pub(super) context: Inputs,
    /// What each has of its own.
    pub(super) candidate: Inputs,
    /// What is made of both.
    pub(super) joint: Inputs,
}

/// Some features, and the inputs made of them.
#[derive(Debug, Default)]
pub(super) struct Inputs {
    pub(super) side: Side,
    pub(super) part: Part,
}

impl Division {
    /// Of the inputs of this net, where candidates bear the columns `own`.
    pub(super) fn new(spec: &FeatureSpec, decoder: &EventDecoder, net: &LightNet, own: Vec<bool>) -> Self {
        let sides = spec.sides(|feature| decoder.reads_any(feature, &own));
        let inputs = |side: Side| Inputs { part: net.part(&side, spec.numbers().len()), side };
        Division { context: inputs(sides.context), candidate: inputs(sides.candidate), joint: inputs(sides.joint), own }
    }

    /// Whether candidates bear these columns and perhaps others.
    pub(super) fn includes(&self, columns: &ObjectColumns<'_>) -> bool {
        columns.borne().zip(&self.own).all(|(borne, own)| *own || !borne)
    }

    /// Whether candidates bear any of these columns.
    pub(super) fn meets(&self, columns: &ObjectColumns<'_>) -> bool {
        columns.borne().zip(&self.own).any(|(borne, own)| *own && borne)
    }

    /// Whether each column of the schema is the candidates'.
    pub(super) fn own(&self) -> &[bool] {
        &self.own
    }
}

impl Inputs {
    pub(super) fn is_empty(&self) -> bool {
        self.side.features.is_empty()
    }
}
