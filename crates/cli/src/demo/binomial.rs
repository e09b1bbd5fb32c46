//! Is an observed share what was asked for? The exact interval of the binomial distribution.

/// The smallest range of counts, out of `trials` with probability `share`, outside of which at most
/// 0.01 % of runs fall: 0.005 % on either side.
pub(super) fn interval(trials: u64, share: f64) -> (u64, u64) {
    const TAIL: f64 = 0.000_05;
    if share <= 0.0 {
        return (0, 0);
    }
    if share >= 1.0 {
        return (trials, trials);
    }
    let (mut below, mut low, mut high) = (0.0, 0, trials);
    let mut found_low = false;
    let mut log_probability = trials as f64 * (1.0 - share).ln();
    for count in 0..=trials {
        let probability = log_probability.exp();
        below += probability;
        if !found_low && below > TAIL {
            (low, found_low) = (count, true);
        }
        if below >= 1.0 - TAIL {
            high = count;
            break;
        }
        let left = (trials - count) as f64;
        log_probability += (left * share / ((count + 1) as f64 * (1.0 - share))).ln();
    }
    (low, high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_of_known_distributions() {
        // 400 coins: mean 200, deviation 10; 3.89 deviations hold 99.99 %.
        assert_eq!(interval(400, 0.5), (161, 239));
        assert_eq!((interval(400, 0.0), interval(400, 1.0)), ((0, 0), (400, 400)));
        let (low, high) = interval(500, 0.1);
        assert!((24..=28).contains(&low) && (76..=80).contains(&high), "{low} {high}");
    }
}
