//! The rules of a model route.

use super::super::error::FieldError;
use super::super::rules::{ENTRIES_MAX, Errors, SPAN_MIN, TIMEOUT_MAX};
use crate::model::{Deployment, Match, ModelRouteManifest, OnError, Tier};
use crate::quantity::Span;

/// Most alternatives of conditions: each is looked at for every call.
pub(super) const MATCHES_MAX: usize = 16;
/// Most tiers.
pub(super) const TIERS_MAX: usize = 8;
/// Most deployments of a tier.
pub(super) const DEPLOYMENTS_MAX: usize = 16;
/// Largest weight: shares of a hundredth of a percent can be told.
pub(super) const WEIGHT_MAX: u32 = 10_000;
/// Most tries of one call.
pub(super) const TRIES_MAX: u32 = 10;
/// Most failures until a deployment is left alone.
pub(super) const FAILURES_MAX: u32 = 100;
/// Largest output limit, in tokens: above what any model writes, below what would reserve a whole budget.
pub(super) const OUTPUT_MAX: u64 = 1_000_000;
/// Longest pause before a try, and longest wait for an answer's first byte: a client waits meanwhile.
const WAIT_MAX: Span = Span::from_secs(3600);

impl Errors {
    pub(super) fn model_route(&mut self, manifest: &ModelRouteManifest) {
        let spec = &manifest.spec;
        self.name("metadata.name", &manifest.metadata.name);
        self.count("spec.match", spec.matches.len(), MATCHES_MAX);
        for (index, one) in spec.matches.iter().enumerate() {
            self.condition(&format!("spec.match[{index}]"), one);
        }
        self.tiers(&spec.tiers);
        self.on_error(&spec.on_error);
        if spec.max_output_tokens == 0 || spec.max_output_tokens > OUTPUT_MAX {
            let rule = format!("must be 1 to {OUTPUT_MAX}");
            self.add("spec.maxOutputTokens", rule, spec.max_output_tokens.to_string());
        }
    }

    fn condition(&mut self, path: &str, one: &Match) {
        if *one == Match::default() {
            let rule = "must have a condition; without spec.match the route takes every call";
            self.0.push(FieldError::new(path, rule));
        }
        self.count(&format!("{path}.models"), one.models.len(), ENTRIES_MAX);
        for (index, pattern) in one.models.iter().enumerate() {
            self.model_name(&format!("{path}.models[{index}]"), pattern);
        }
        self.count(&format!("{path}.namespaces"), one.namespaces.len(), ENTRIES_MAX);
        for (index, pattern) in one.namespaces.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-*".contains(&b);
            if pattern.is_empty() || pattern.len() > 63 || !pattern.bytes().all(plain) {
                let rule = "must be the name of a namespace, or a pattern of a-z, 0-9, '-' and '*'";
                self.add(format!("{path}.namespaces[{index}]"), rule, format!("{pattern:?}"));
            }
        }
        for (index, class) in one.subtasks.iter().enumerate() {
            if one.subtasks[..index].contains(class) {
                self.add(format!("{path}.subtasks[{index}]"), "must be unique", class.to_string());
            }
        }
        self.labels(&format!("{path}.labels"), &one.labels);
    }

    fn tiers(&mut self, tiers: &[Tier]) {
        if tiers.is_empty() {
            let rule = "must have at least one tier: without one nobody serves a call";
            self.0.push(FieldError::new("spec.tiers", rule));
        }
        self.count("spec.tiers", tiers.len(), TIERS_MAX);
        let mut below: Option<u32> = None;
        for (index, tier) in tiers.iter().enumerate() {
            let path = format!("spec.tiers[{index}]");
            self.name(&format!("{path}.name"), &tier.name);
            if let Some(first) = tiers[..index].iter().position(|other| other.name == tier.name) {
                let rule = format!("must be unique; spec.tiers[{first}] has the same name");
                self.add(format!("{path}.name"), rule, format!("{:?}", tier.name));
            }
            let stall = tier.from.stall;
            let rule = match below {
                None if stall != 0 => {
                    Some("must be 0: the first tier serves loops that do not stall".to_owned())
                }
                Some(below) if stall <= below => {
                    Some(format!("must be more than the {below} of the tier before"))
                }
                _ => None,
            };
            if let Some(rule) = rule {
                self.add(format!("{path}.from.stall"), rule, stall.to_string());
            }
            below = Some(stall);
            self.deployments(&path, tier);
        }
    }

    fn deployments(&mut self, path: &str, tier: &Tier) {
        let path = format!("{path}.deployments");
        let all = &tier.deployments;
        if all.is_empty() {
            self.0.push(FieldError::new(&path, "must have at least one"));
        }
        self.count(&path, all.len(), DEPLOYMENTS_MAX);
        for (index, one) in all.iter().enumerate() {
            let path = format!("{path}[{index}]");
            self.name(&format!("{path}.provider"), &one.provider);
            if let Some(model) = &one.model {
                self.model_name(&format!("{path}.model"), model);
            }
            let same = |other: &&Deployment| {
                (&other.provider, &other.model) == (&one.provider, &one.model)
            };
            if all[..index].iter().find(same).is_some() {
                let rule = "is in this tier already; a larger share is a larger weight";
                self.add(&path, rule, &one.provider);
            }
            if one.weight > WEIGHT_MAX {
                let rule = format!("must be 0 to {WEIGHT_MAX}");
                self.add(format!("{path}.weight"), rule, one.weight.to_string());
            }
        }
        if !all.is_empty() && all.iter().all(|one| one.weight == 0) {
            let rule =
                "must have one with a weight above 0: all others are asked only when that fails";
            self.0.push(FieldError::new(path, rule));
        }
    }

    fn on_error(&mut self, on_error: &OnError) {
        self.range("spec.onError.tries", on_error.tries, TRIES_MAX);
        self.range("spec.onError.failures", on_error.failures, FAILURES_MAX);
        self.span("spec.onError.pauseMax", on_error.pause_max, Span::from_secs(0), WAIT_MAX);
        self.span("spec.onError.coolDown", on_error.cool_down, SPAN_MIN, TIMEOUT_MAX);
        self.span("spec.onError.firstByte", on_error.first_byte, SPAN_MIN, WAIT_MAX);
    }
}
