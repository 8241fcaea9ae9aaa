use std::ops::Range;

/// What stands where in an input vector: slots first, side by side, then numbers; and what stands beside it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputShape {
    /// Floats of the whole vector.
    pub width: usize,
    /// Floats of each slot's vector.
    pub slots: Vec<usize>,
    /// Sequences that the booster attends to.
    pub sequences: Vec<SequenceShape>,
}

/// A behaviour sequence, padded to one length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SequenceShape {
    /// Rows of an example, at most.
    pub length: usize,
    /// Where in the input vector stands what it is looked at with; as wide as a row.
    pub target: Range<usize>,
}

/// Numbers alone.
impl From<usize> for InputShape {
    fn from(width: usize) -> Self {
        InputShape { width, ..InputShape::default() }
    }
}

/// The input vectors of a batch, or the gradients by them.
///
/// # Shapes
/// `shared` and `light` are `[rows, layout.inputs()]`, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// What the booster reads, and light where it shares them.
    pub shared: Vec<f32>,
    /// What light reads where it shares nothing.
    pub light: Option<Vec<f32>>,
    /// What the booster reads besides, in the order of [`InputShape::sequences`].
    pub sequences: Vec<Sequence>,
}

/// The rows of a behaviour sequence, or the gradients by them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sequence {
    /// `[rows, length, dim]`, the newest of an example last; what stands behind it has no influence.
    pub rows: Vec<f32>,
    /// How many there are of each example, `[rows]`.
    pub lengths: Vec<u32>,
}

/// Inputs that all heads share.
impl From<Vec<f32>> for Inputs {
    fn from(shared: Vec<f32>) -> Self {
        Inputs { shared, ..Inputs::default() }
    }
}
