//! What a call cost, in US dollars, from the committed price list `prices.json`.
//!
//! Prices are per million tokens, as published at the address named in the list on its `as_of` day.

use super::wire::Usage;
use rust_decimal::Decimal;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The cost of one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// US dollars, exact.
    pub usd: Decimal,
    /// Whether the model is on the price list. If not, `usd` is by the dearest model that is.
    pub known_model: bool,
}

/// What a call with this usage cost.
///
/// Thinking is part of the written tokens. Cache writes of unstated duration count as five-minute ones.
#[must_use]
pub fn cost(model: &str, usage: &Usage) -> Cost {
    let (known_model, price) = price_of(model);
    let written = usage.cache_creation_input_tokens.unwrap_or(0);
    let split = usage.cache_creation.clone().unwrap_or_default();
    let hourly = split.ephemeral_1h_input_tokens.unwrap_or(0);
    let brief = split.ephemeral_5m_input_tokens.unwrap_or(0).max(written.saturating_sub(hourly));
    let read = usage.cache_read_input_tokens.unwrap_or(0);
    let prompt_tokens =
        [usage.input_tokens, brief, hourly, read].into_iter().fold(0, u64::saturating_add);
    let rates = price.rates_for(prompt_tokens);

    let per_million = Decimal::from(usage.input_tokens) * rates.input
        + Decimal::from(brief) * rates.cache_write_5m
        + Decimal::from(hourly) * rates.cache_write_1h
        + Decimal::from(read) * rates.cache_read
        + Decimal::from(usage.output_tokens) * rates.output;
    Cost { usd: (per_million / TOKENS_PER_PRICE * multiplier(usage)).normalize(), known_model }
}

/// What a call costs at most, or close to it, when its answer never came: a guess for the budget.
///
/// The prompt is taken as one token for every three bytes, more than today's tokenizer makes of prose or JSON, all of it
/// written to the five-minute cache; the answer as `max_tokens` in full.
#[must_use]
pub fn estimate(model: &str, prompt_bytes: usize, max_tokens: u32) -> Decimal {
    guess(model, prompt_bytes, max_tokens, None)
}

/// The same for a call that goes into a batch: half.
#[must_use]
pub fn estimate_in_batch(model: &str, prompt_bytes: usize, max_tokens: u32) -> Decimal {
    guess(model, prompt_bytes, max_tokens, Some("batch"))
}

fn guess(model: &str, prompt_bytes: usize, max_tokens: u32, tier: Option<&str>) -> Decimal {
    let prompt_tokens = u64::try_from(prompt_bytes.div_ceil(3)).unwrap_or(u64::MAX);
    let usage = Usage {
        output_tokens: u64::from(max_tokens),
        cache_creation_input_tokens: Some(prompt_tokens),
        service_tier: tier.map(str::to_owned),
        ..Usage::default()
    };
    cost(model, &usage).usd
}

/// Whether the model, with or without a date behind its name, is on the price list.
#[must_use]
pub fn is_known_model(model: &str) -> bool {
    PRICES.find(model).is_some()
}

/// The day of the price list, as `YYYY-MM-DD`.
#[must_use]
pub fn prices_as_of() -> &'static str {
    &PRICES.as_of
}

const TOKENS_PER_PRICE: Decimal = Decimal::from_parts(1_000_000, 0, 0, false, 0);
const LONG_PROMPT_TOKENS: u64 = 100_000;

static PRICES: LazyLock<Prices> = LazyLock::new(|| {
    serde_json::from_str(include_str!("prices.json"))
        .expect("prices.json is compiled in, and a test reads it")
});

#[derive(Debug, Deserialize)]
struct Prices {
    as_of: String,
    models: BTreeMap<String, Price>,
    multipliers: Multipliers,
}

#[derive(Debug, Deserialize)]
struct Price {
    #[serde(flatten)]
    rates: Rates,
    #[serde(default)]
    over_100k_prompt_tokens: Option<Rates>,
}

#[derive(Debug, Deserialize)]
struct Rates {
    input: Decimal,
    output: Decimal,
    cache_write_5m: Decimal,
    cache_write_1h: Decimal,
    cache_read: Decimal,
}

#[derive(Debug, Deserialize)]
struct Multipliers {
    batch: Decimal,
    inference_geo_us: Decimal,
    speed_fast: Decimal,
}

impl Prices {
    fn find(&self, model: &str) -> Option<&Price> {
        self.models.get(model).or_else(|| {
            self.models
                .iter()
                .find(|(known, _)| is_dated_form(model, known))
                .map(|(_, price)| price)
        })
    }

    fn dearest(&self) -> Option<&Price> {
        self.models.values().max_by_key(|price| (price.rates.output, price.rates.input))
    }
}

impl Price {
    fn rates_for(&self, prompt_tokens: u64) -> &Rates {
        match &self.over_100k_prompt_tokens {
            Some(high) if prompt_tokens > LONG_PROMPT_TOKENS => high,
            _ => &self.rates,
        }
    }
}

fn price_of(model: &str) -> (bool, &'static Price) {
    if let Some(price) = PRICES.find(model) {
        return (true, price);
    }
    let dearest =
        PRICES.dearest().expect("prices.json is compiled in, and a test sees that it names models");
    (false, dearest)
}

/// `claude-opus-5` must not match `claude-opus-5-5`: what follows the name is a date of eight digits, or `latest`.
fn is_dated_form(model: &str, known: &str) -> bool {
    model.strip_prefix(known).and_then(|rest| rest.strip_prefix('-')).is_some_and(|rest| {
        rest == "latest" || (rest.len() == 8 && rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

fn multiplier(usage: &Usage) -> Decimal {
    let factors = &PRICES.multipliers;
    let mut product = Decimal::ONE;
    if usage.service_tier.as_deref() == Some("batch") {
        product *= factors.batch;
    }
    if usage.inference_geo.as_deref() == Some("us") {
        product *= factors.inference_geo_us;
    }
    if usage.speed.as_deref() == Some("fast") {
        product *= factors.speed_fast;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claude::wire::CacheCreation;

    fn usd(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, ..Usage::default() }
    }

    #[test]
    fn plain_tokens_cost_their_list_price() {
        // 1000 * 4 + 500 * 20 = 14,000 millionths.
        let cost = cost("claude-opus-5-5", &usage(1000, 500));
        assert_eq!(cost, Cost { usd: usd("0.014"), known_model: true });
    }

    #[test]
    fn the_documented_usage_of_a_cached_call() {
        // 812 * 2 + 1480 * 2.5 + 96 * 10 = 1624 + 3700 + 960 = 6284.
        let body: crate::claude::MessageResponse =
            serde_json::from_str(crate::claude::wire::tests::STRUCTURED).unwrap();
        assert_eq!(cost("claude-sonnet-5-5", &body.usage).usd, usd("0.006284"));
    }

    #[test]
    fn each_kind_of_cache_has_its_price() {
        let cached = Usage {
            cache_creation_input_tokens: Some(3000),
            cache_read_input_tokens: Some(10_000),
            cache_creation: Some(CacheCreation {
                ephemeral_5m_input_tokens: Some(1000),
                ephemeral_1h_input_tokens: Some(2000),
            }),
            ..usage(100, 10)
        };
        // 100*4 + 1000*5 + 2000*8 + 10000*0.20 + 10*20 = 400 + 5000 + 16000 + 2000 + 200.
        assert_eq!(cost("claude-opus-5-5", &cached).usd, usd("0.0236"));
        let without_split = Usage { cache_creation: None, ..cached };
        // The 3000 now all at 5: 400 + 15000 + 2000 + 200.
        assert_eq!(cost("claude-opus-5-5", &without_split).usd, usd("0.0176"));
    }

    #[test]
    fn haiku_charges_the_whole_request_more_above_100k() {
        assert_eq!(cost("claude-haiku-5-5", &usage(100_000, 1000)).usd, usd("0.0105"));
        // 100,001 * 0.5 + 1000 * 2.5 = 50,000.5 + 2,500.
        assert_eq!(cost("claude-haiku-5-5", &usage(100_001, 1000)).usd, usd("0.0525005"));
        let through_the_cache = Usage { cache_read_input_tokens: Some(100_000), ..usage(1, 0) };
        // 1 * 0.5 + 100,000 * 0.05.
        assert_eq!(cost("claude-haiku-5-5", &through_the_cache).usd, usd("0.0050005"));
    }

    #[test]
    fn batch_halves_the_united_states_add_a_tenth_and_fast_doubles() {
        let of = |change: fn(&mut Usage)| {
            let mut usage = usage(1000, 500);
            change(&mut usage);
            cost("claude-opus-5-5", &usage).usd
        };
        assert_eq!(of(|u| u.service_tier = Some("batch".into())), usd("0.007"));
        assert_eq!(of(|u| u.inference_geo = Some("us".into())), usd("0.0154"));
        assert_eq!(of(|u| u.speed = Some("fast".into())), usd("0.028"));
        assert_eq!(of(|u| u.service_tier = Some("standard".into())), usd("0.014"));
    }

    #[test]
    fn a_dated_name_has_the_price_of_its_family_and_not_of_a_shorter_one() {
        let price = |model| cost(model, &usage(1_000_000, 0));
        assert_eq!(price("claude-opus-5-5-20261001"), Cost { usd: usd("4"), known_model: true });
        assert_eq!(price("claude-opus-5-20260201"), Cost { usd: usd("5"), known_model: true });
        assert!(!is_known_model("claude-opus-5-7"));
    }

    #[test]
    fn an_unknown_model_is_priced_at_the_dearest_and_says_so() {
        assert_eq!(
            cost("claude-saga-6", &usage(1_000_000, 1_000_000)),
            Cost { usd: usd("60"), known_model: false }
        );
    }

    #[test]
    fn an_estimate_takes_a_token_for_three_bytes_and_the_whole_answer() {
        // 3000 bytes: 1000 tokens at 5, and 100 at 20.
        assert_eq!(estimate("claude-opus-5-5", 3000, 100), usd("0.007"));
        // One byte more is one token more.
        assert_eq!(estimate("claude-opus-5-5", 3001, 100), usd("0.007005"));
        assert_eq!(estimate_in_batch("claude-opus-5-5", 3000, 100), usd("0.0035"));
    }

    #[test]
    fn no_count_of_tokens_overflows() {
        let most = Usage {
            cache_creation_input_tokens: Some(u64::MAX),
            cache_read_input_tokens: Some(u64::MAX),
            ..usage(u64::MAX, u64::MAX)
        };
        assert!(cost("claude-fable-5-1", &most).usd > Decimal::ZERO);
        assert!(estimate("nobody", usize::MAX, u32::MAX) > Decimal::ZERO);
    }

    #[test]
    fn the_price_list_names_its_day() {
        assert_eq!(prices_as_of(), "2026-11-22");
    }
}
