/// What stands where in an input vector: slots first, side by side, then numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputShape {
    /// Floats of the whole vector.
    pub width: usize,
    /// Floats of each slot's vector.
    pub slots: Vec<usize>,
}

/// Numbers alone.
impl From<usize> for InputShape {
    fn from(width: usize) -> Self {
        InputShape { width, slots: Vec::new() }
    }
}

/// The input vectors of a batch, or the gradients by them.
///
/// # Shapes
/// Each `[rows, layout.inputs()]`, row-major.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Inputs {
    /// What the booster reads, and light where it shares them.
    pub shared: Vec<f32>,
    /// What light reads where it shares nothing.
    pub light: Option<Vec<f32>>,
}

/// Inputs that all heads share.
impl From<Vec<f32>> for Inputs {
    fn from(shared: Vec<f32>) -> Self {
        Inputs { shared, light: None }
    }
}
