/// Increment of splitmix64.
const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;

/// splitmix64 (Steele, Lea, Flood 2014): good numbers from any start, so that a value can be drawn from a key alone.
pub(super) struct SplitMix(u64);

impl SplitMix {
    /// The numbers of one key under one seed.
    pub(super) fn new(key: u64, seed: u64) -> Self {
        SplitMix(key ^ seed.wrapping_mul(GOLDEN))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in [0, 1).
    pub(super) fn unit(&mut self) -> f32 {
        // The upper 24 bits fill an f32's mantissa exactly.
        (self.next() >> 40) as f32 / (1 << 24) as f32
    }
}
