//! The rules of a provider.

use std::collections::BTreeMap;

use super::super::error::{FieldError, child_path};
use super::super::rules::{ENTRIES_MAX, Errors};
use super::address;
use crate::model::{AuthScheme, ModelPrice, ProviderManifest, ProviderSpec};

/// Most models with a price of their own.
const PRICES_MAX: usize = 256;
/// Longest header value or query, in bytes.
const TEXT_BYTES_MAX: usize = 4096;
/// Headers that the gateway sets itself, or that belong to one connection.
const HEADERS_OURS: [&str; 13] = [
    "accept-encoding",
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl Errors {
    pub(super) fn provider(&mut self, manifest: &ProviderManifest) {
        let spec = &manifest.spec;
        self.name("metadata.name", &manifest.metadata.name);
        if let Err(rule) = address::read(&spec.base_url) {
            // What may be a key in the wrong place is not repeated.
            let found = if spec.base_url.contains('@') {
                String::new()
            } else {
                format!("{:?}", spec.base_url)
            };
            self.add("spec.baseUrl", rule, found);
        }
        if spec.protocols.is_empty() {
            let rule = "must name at least one: anthropic, chat or responses";
            self.0.push(FieldError::new("spec.protocols", rule));
        }
        for (index, protocol) in spec.protocols.iter().enumerate() {
            if spec.protocols[..index].contains(protocol) {
                let rule = "must be unique";
                self.add(format!("spec.protocols[{index}]"), rule, protocol.to_string());
            }
        }
        if let Some(auth) = &spec.auth {
            self.name("spec.auth.secret.namespace", &auth.secret.namespace);
            self.name("spec.auth.secret.name", &auth.secret.name);
        }
        self.headers(spec);
        if let Some(query) = &spec.query {
            self.query(query);
        }
        let quota = &spec.quota;
        let bounds = [
            ("requestsPerMinute", quota.requests_per_minute),
            ("tokensPerMinute", quota.tokens_per_minute),
        ];
        for (field, _) in bounds.iter().filter(|(_, bound)| *bound == Some(0)) {
            self.add(format!("spec.quota.{field}"), "must be more than nothing", "0");
        }
        self.prices(&spec.prices);
    }

    fn headers(&mut self, spec: &ProviderSpec) {
        self.count("spec.headers", spec.headers.len(), ENTRIES_MAX);
        let scheme = spec.auth.as_ref().map(|auth| auth.scheme);
        for (name, value) in &spec.headers {
            let path = child_path("spec.headers", name);
            let lower = name.to_ascii_lowercase();
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            if name.is_empty() || !name.bytes().all(token) {
                self.add(
                    &path,
                    "a header's name must be letters, digits and - _",
                    format!("{name:?}"),
                );
            } else if HEADERS_OURS.contains(&lower.as_str()) || lower.starts_with("x-flyball-") {
                self.add(&path, "is set by the gateway; a key goes into spec.auth", name);
            } else if holds_key(scheme, &lower) {
                self.add(&path, "carries the key of spec.auth already", name);
            }
            let visible = |byte: u8| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t';
            if value.len() > TEXT_BYTES_MAX || !value.bytes().all(visible) {
                let rule = format!("must be at most {TEXT_BYTES_MAX} visible ASCII characters");
                self.0.push(FieldError::new(path, rule));
            }
        }
    }

    fn query(&mut self, query: &str) {
        let allowed = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>".contains(&byte);
        if query.is_empty() || query.len() > TEXT_BYTES_MAX || !query.bytes().all(allowed) {
            let rule =
                "must be KEY=VALUE pairs with & between them, percent-encoded, without a '?'";
            self.add("spec.query", rule, format!("{query:?}"));
        }
    }

    fn prices(&mut self, prices: &BTreeMap<String, ModelPrice>) {
        self.count("spec.prices", prices.len(), PRICES_MAX);
        for (model, price) in prices {
            let path = child_path("spec.prices", model);
            self.model_name(&path, model);
            if price.long.is_some_and(|long| long.above == 0) {
                let rule =
                    "must be more than 0; prices that hold for every request stand outside of long";
                self.add(format!("{path}.long.above"), rule, "0");
            }
        }
    }
}

fn holds_key(scheme: Option<AuthScheme>, header: &str) -> bool {
    match scheme {
        Some(AuthScheme::XApiKey) => header == "x-api-key",
        Some(AuthScheme::ApiKey) => header == "api-key",
        Some(AuthScheme::Bearer) | None => false,
    }
}

pub(super) fn warnings(spec: &ProviderSpec) -> Vec<String> {
    let mut found = Vec::new();
    if let Ok(address) = address::read(&spec.base_url)
        && !address.https
        && !address::is_loopback(address.host)
    {
        let what = if spec.auth.is_some() { "the key and all prompts" } else { "all prompts" };
        found.push(format!(
            "spec.baseUrl: http:// to {}: {what} go over the network in the clear",
            address.host
        ));
    }
    let key_like = ["x-api-key", "api-key"];
    let in_headers =
        spec.headers.keys().find(|name| key_like.contains(&name.to_ascii_lowercase().as_str()));
    if let Some(name) = in_headers {
        found.push(format!(
            "spec.headers.{name}: can be read by everyone who may read providers; a key belongs into a secret, \
             named by spec.auth"
        ));
    }
    found
}
