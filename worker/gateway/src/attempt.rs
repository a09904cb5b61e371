//! One try of a call at one deployment, from the reservation to the settlement.

use flyball_core::model::{Amount, ModelPrice, Money, Usage};

use crate::admit::Held;
use crate::quota::Taken;
use crate::wire::{self, Call, Most, Seen};

/// What is held for a try. Dropped without a settlement after it was sent, the worst case counts as used.
#[derive(Debug)]
pub(crate) struct Attempt {
    held: Option<Held>,
    taken: Option<Taken>,
    price: ModelPrice,
    most: Most,
}

/// How an answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    /// A stream, piece by piece, as they came.
    AsItCame,
    /// A stream, but not all that had come when it was cut: its client was slower than the provider.
    Behind,
    /// A plain answer.
    AtItsEnd,
}

/// What a try used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) usage: Usage,
    pub(crate) money: Money,
    /// The provider never told; this is no less than it can have been.
    pub(crate) estimated: bool,
}

impl Attempt {
    pub(crate) fn new(held: Held, taken: Taken, price: ModelPrice, most: Most) -> Self {
        Self { held: Some(held), taken: Some(taken), price, most }
    }

    /// From now on the provider may have seen it.
    pub(crate) fn sent(&mut self) {
        if let Some(held) = &mut self.held {
            held.sent();
        }
        if let Some(taken) = &mut self.taken {
            taken.sent();
        }
    }

    /// The provider answered with an error, or was not reached: nothing is billed, but the try counts as a call, or a
    /// failing provider could be asked for ever.
    pub(crate) fn failed(self) -> Used {
        self.close(Used::default(), 1)
    }

    /// The provider refused it for its account's limit: no call, for how often that is asked is bounded by time, and a
    /// wait for quota is not to eat a budget.
    pub(crate) fn limited(self) -> Used {
        self.close(Used::default(), 0)
    }

    /// The answer has ended, wherever, as it was read.
    pub(crate) fn answered(mut self, call: &Call, seen: &Seen, read: Read) -> Used {
        let told = seen.usage.filter(|_| seen.usage_final);
        self.most.unread |= read == Read::Behind;
        let usage = told.unwrap_or_else(|| match read {
            Read::AsItCame | Read::Behind => wire::estimate(call, seen, &self.most),
            // Of a plain answer that did not arrive nothing is known.
            Read::AtItsEnd => self.worst(),
        });
        let tier = seen.service_tier.as_deref().or(call.service_tier.as_deref());
        let money = Money(self.price.cost(&usage).0.saturating_mul(tier_factor(tier)));
        self.close(Used { usage, money, estimated: told.is_none() }, 1)
    }

    /// Cut before the answer began, by whomever: the provider may have done all of it.
    pub(crate) fn cut(self) -> Used {
        let usage = self.worst();
        let money = self.price.cost(&usage);
        self.close(Used { usage, money, estimated: true }, 1)
    }

    fn worst(&self) -> Usage {
        let Most { input, output, searches, .. } = self.most;
        Usage {
            input_total: input,
            output_total: output,
            web_searches: searches,
            ..Usage::default()
        }
    }

    fn close(mut self, used: Used, calls: u64) -> Used {
        let tokens = used.usage.tokens();
        if let Some(held) = self.held.take() {
            held.settle(Amount { tokens, money: used.money, calls });
        }
        if let Some(taken) = self.taken.take() {
            taken.used(tokens);
        }
        used
    }
}

/// By how much a class of service is dearer at most than the price table says: OpenAI's `priority` costs about twice,
/// Anthropic's `fast` up to six times.
pub(crate) fn tier_factor(tier: Option<&str>) -> u64 {
    match tier {
        Some("priority") => 2,
        Some("fast") => 6,
        _ => 1,
    }
}
