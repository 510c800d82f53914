//! False discoveries over many experiments: of all that was adopted so far, how much was chance?
//!
//! Each experiment spends a part of one budget, and each discovery earns some back, so that the expected share of
//! chance among the discoveries stays below `alpha` however many experiments follow. LORD++ (Ramdas, Yang, Wainwright,
//! Jordan, 2017) and SAFFRON (Ramdas, Zrnic, Wainwright, Jordan, 2018) take p-values, e-LOND (Xu and Ramdas, 2024)
//! takes e-values. They decide nothing here: `mathesis gate replay` shows them beside what was decided.

/// One experiment's level and whether it counts as a discovery at it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested {
    /// The level that it was tested at.
    pub level: f64,
    /// Whether it is a discovery.
    pub discovery: bool,
}

/// LORD++ on one-sided p-values in the order of their experiments. `start` is the budget at the start, below `alpha`.
#[must_use]
pub fn lord(p_values: &[f64], alpha: f64, start: f64) -> Vec<Tested> {
    let mut discoveries: Vec<usize> = Vec::new();
    numbered(p_values)
        .map(|(now, p)| {
            let earned = earnings(&discoveries, alpha, start, |then| lord_weight(now - then));
            let level = start * lord_weight(now) + earned;
            let discovery = p <= level;
            if discovery {
                discoveries.push(now);
            }
            Tested { level, discovery }
        })
        .collect()
}

/// SAFFRON on one-sided p-values: those above `candidate_max` cost nothing of the budget.
#[must_use]
pub fn saffron(p_values: &[f64], alpha: f64, start: f64, candidate_max: f64) -> Vec<Tested> {
    let mut discoveries: Vec<usize> = Vec::new();
    let mut candidates: Vec<usize> = Vec::new();
    numbered(p_values)
        .map(|(now, p)| {
            let weight = |since: usize| {
                let spent = candidates.iter().filter(|&&then| then > since).count();
                saffron_weight((now - since).saturating_sub(spent))
            };
            let earned = earnings(&discoveries, alpha, start, weight);
            let level = ((1.0 - candidate_max) * (start * weight(0) + earned)).min(candidate_max);
            let discovery = p <= level;
            if discovery {
                discoveries.push(now);
            }
            if p <= candidate_max {
                candidates.push(now);
            }
            Tested { level, discovery }
        })
        .collect()
}

/// e-LOND on e-values.
#[must_use]
pub fn e_lond(e_values: &[f64], alpha: f64) -> Vec<Tested> {
    let mut discoveries = 0.0;
    numbered(e_values)
        .map(|(now, e)| {
            let level = alpha * lord_weight(now) * (discoveries + 1.0);
            let discovery = e * level >= 1.0;
            if discovery {
                discoveries += 1.0;
            }
            Tested { level, discovery }
        })
        .collect()
}

/// Experiments are numbered from 1.
fn numbered(values: &[f64]) -> impl Iterator<Item = (usize, f64)> + '_ {
    (1..).zip(values.iter().copied())
}

/// What the discoveries so far give back: the first one only what `start` left of `alpha`.
fn earnings(discoveries: &[usize], alpha: f64, start: f64, weight: impl Fn(usize) -> f64) -> f64 {
    let gains = std::iter::once(alpha - start).chain(std::iter::repeat(alpha));
    discoveries.iter().zip(gains).map(|(&then, gain)| gain * weight(then)).sum()
}

/// The share of the budget spent on the k-th experiment from some moment; all sum to 1.
fn lord_weight(k: usize) -> f64 {
    let k = k as f64;
    0.077_208_38 * k.max(2.0).ln() / (k * k.ln().sqrt().exp())
}

/// The same for SAFFRON.
fn saffron_weight(k: usize) -> f64 {
    0.437_490_165_8 / (k as f64).powf(1.6)
}
