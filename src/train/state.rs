/// Name and shape of one tensor inside a flat vector.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct TensorLayout {
    /// `shared.0.weight` `[in, out]`, `shared.0.bias` `[out]`, `light.…`, `booster.…`, `control.…`; the last layer of a head is its
    /// highest index, with out = 1.
    pub name: String,
    /// Dimensions.
    pub shape: Vec<usize>,
}

/// Dense parameters and Adam's state, flat, in the order of `layout`.
#[derive(Debug, Clone, PartialEq)]
pub struct DenseState {
    /// Names and shapes.
    pub layout: Vec<TensorLayout>,
    /// Parameters.
    pub params: Vec<f32>,
    /// First moments.
    pub m: Vec<f32>,
    /// Second moments.
    pub v: Vec<f32>,
    /// Steps taken.
    pub steps: u64,
}

/// Embedding rows: all, or those touched since the capture before.
#[derive(Debug, Clone, PartialEq)]
pub struct RowsState {
    /// Floats per row; its optimizer state is as many again.
    pub dim: usize,
    /// Keys, in the order the table knows them.
    pub keys: Vec<u64>,
    /// `[keys, 2·dim]`: weights, then Adagrad accumulators.
    pub data: Vec<f32>,
    /// All rows of the table.
    pub full: bool,
}

/// Everything a learner is.
#[derive(Debug, Clone, PartialEq)]
pub struct LearnerState {
    /// Dense parameters.
    pub dense: DenseState,
    /// Embedding rows.
    pub rows: RowsState,
}
