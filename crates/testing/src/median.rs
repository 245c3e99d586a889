//! The median of measured values.

/// Median of some values, and the range in which the median of any number of rounds is with 95 % certainty: the values at two
/// ranks, for any distribution. With fewer than six values it is the range of all values.
#[derive(Clone, Copy, Debug)]
pub struct Median {
    pub low: f64,
    pub median: f64,
    pub high: f64,
}

impl Median {
    /// `None` if there are no values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let either_side = values.len().isqrt();
        Some(Self {
            low: values[(last / 2).saturating_sub(either_side)],
            median: (values[last / 2] + values[last.div_ceil(2)]) / 2.0,
            high: values[(last.div_ceil(2) + either_side).min(last)],
        })
    }
}
