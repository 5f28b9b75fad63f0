//! A histogram of latencies whose buckets grow with the latency: two to each doubling, from 0 us to over an hour.

use serde::Serialize;

/// Buckets of a histogram: two for each of the 32 bits of a latency in microseconds.
pub const BUCKETS: usize = 64;

/// The bucket that counts a latency; the last one takes everything longer.
pub fn bucket_of(latency_us: u64) -> usize {
    let Some(exponent) = latency_us.checked_ilog2().filter(|exponent| *exponent > 0) else {
        return usize::from(latency_us == 1);
    };
    // The bit below the leading one tells the lower half of a doubling from the upper.
    let upper_half = usize::from(latency_us >> (exponent - 1) & 1 == 1);
    (2 * exponent as usize + upper_half).min(BUCKETS - 1)
}

/// The smallest latency, in microseconds, that is too long for `bucket`; the last bucket has no such bound.
pub fn bucket_upper_us(bucket: usize) -> Option<u64> {
    match bucket {
        0 | 1 => Some(bucket as u64 + 1),
        _ if bucket < BUCKETS - 1 => {
            let half = 1 << (bucket / 2 - 1);
            Some(if bucket.is_multiple_of(2) { 3 * half } else { 4 * half })
        }
        _ => None,
    }
}

/// Latencies, counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Histogram {
    /// How many fell into each of the [`BUCKETS`].
    pub counts: Vec<u64>,
    /// The sum of all latencies, in microseconds.
    pub sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], sum_us: 0 }
    }
}

impl Histogram {
    /// How many latencies were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// Adds what another histogram counted.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
    }

    /// An upper bound, in microseconds, of the fastest `per_mille` thousandths of all latencies: 990 for the 99th
    /// percentile. `None` while nothing was counted, or when the answer lies in the bucket without a bound.
    pub fn quantile_us(&self, per_mille: u16) -> Option<u64> {
        let count = u128::from(self.count());
        let rank = (count * u128::from(per_mille)).div_ceil(1000).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += u128::from(*count);
            seen >= rank
        })?;
        bucket_upper_us(bucket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_latencies_fall_where_one_would_expect() {
        let buckets: Vec<usize> = [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 16].map(bucket_of).to_vec();
        assert_eq!(buckets, [0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 7, 8]);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn bounds_and_buckets_agree() {
        for bucket in 0..BUCKETS - 1 {
            let upper_us = bucket_upper_us(bucket).unwrap();
            assert_eq!(bucket_of(upper_us - 1), bucket, "below {upper_us}");
            assert_eq!(bucket_of(upper_us), bucket + 1, "at {upper_us}");
        }
        assert_eq!(bucket_upper_us(BUCKETS - 1), None);
    }

    #[test]
    fn quantiles_are_bounds_of_the_bucket_they_fall_into() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_us(500), None);
        histogram.counts[bucket_of(100)] = 99;
        histogram.counts[bucket_of(50_000)] = 1;
        assert_eq!(histogram.quantile_us(500), bucket_upper_us(bucket_of(100)));
        assert_eq!(histogram.quantile_us(990), bucket_upper_us(bucket_of(100)));
        assert_eq!(histogram.quantile_us(991), bucket_upper_us(bucket_of(50_000)));
    }
}
