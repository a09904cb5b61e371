//! A provider account: where models are served, how it is asked, what it charges and how much it takes.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::money::{Money, PerMillion};

/// The kind of a provider's manifest. Providers belong to the whole cluster.
pub const KIND_PROVIDER: &str = "Provider";

/// A manifest of kind `Provider`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderManifest {
    /// Always `flyball.dev/v1`.
    pub api_version: String,
    /// Always `Provider`.
    pub kind: String,
    /// Its name.
    pub metadata: ProviderMetadata,
    /// Where it is and how it is asked.
    pub spec: ProviderSpec,
}

/// Name of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderMetadata {
    /// 1 to 63 characters of a-z, 0-9 and '-'.
    pub name: String,
}

/// A wire protocol, of clients and of providers.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// Anthropic Messages (`/v1/messages`).
    Anthropic,
    /// OpenAI Chat Completions (`/v1/chat/completions`).
    Chat,
    /// OpenAI Responses (`/v1/responses`).
    Responses,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Anthropic, Self::Chat, Self::Responses];

    /// As in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Chat => "chat",
            Self::Responses => "responses",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a provider is, how it is asked, what it charges and how much it takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProviderSpec {
    /// http or https URL before the protocol's path, as the vendor's own clients take it:
    /// `https://api.anthropic.com`, `https://api.openai.com/v1`, `http://127.0.0.1:8080/v1`.
    pub base_url: String,
    /// What it speaks there. At least one.
    pub protocols: Vec<Protocol>,
    /// How the gateway says who it is; absent for a server that asks nobody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<Auth>,
    /// Further headers of every request.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// Query of every request, such as `api-version=2024-10-21` for Azure-style servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// What the account allows, shared by the whole fleet; what is absent is not bounded.
    #[serde(default, skip_serializing_if = "ProviderQuota::is_none")]
    pub quota: ProviderQuota,
    /// Prices by model name, before those of the price table.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub prices: BTreeMap<String, ModelPrice>,
    /// Whether it works on, and bills all of an answer, when the connection of a stream is closed (Bedrock and some
    /// other clouds, and gateways before them). Then a stream that is cut costs all that it may have been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bills_cut_streams: bool,
}

/// How the gateway says who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Auth {
    /// The secret that holds the key.
    pub secret: SecretRef,
    /// Which header carries it.
    #[serde(default)]
    pub scheme: AuthScheme,
}

/// A secret of some namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Its namespace.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// Its name, as in `flyball secret set`.
    pub name: String,
}

fn default_namespace() -> String {
    crate::spec::DEFAULT_NAMESPACE.to_owned()
}

/// Which header carries a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum AuthScheme {
    /// `Authorization: Bearer KEY`.
    #[default]
    Bearer,
    /// `x-api-key: KEY` (Anthropic).
    XApiKey,
    /// `api-key: KEY` (Azure).
    ApiKey,
}

/// What an account allows in a minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProviderQuota {
    /// Requests a minute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u64>,
    /// Tokens a minute, input and output together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_minute: Option<u64>,
}

impl ProviderQuota {
    /// Whether nothing is bounded.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Prices of a model, per million tokens. What is absent follows from the others: a cache read costs as much as
/// input, a write for five minutes as much as input, one for an hour as much as one for five minutes, reasoning as
/// much as output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelPrice {
    /// Input.
    pub input: PerMillion,
    /// Output.
    pub output: PerMillion,
    /// Input read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<PerMillion>,
    /// Input written to a cache for five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write: Option<PerMillion>,
    /// Input written to a cache for an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_1h: Option<PerMillion>,
    /// Output that is reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<PerMillion>,
    /// One search of the web (not per million).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_search: Option<Money>,
    /// Input tokens of one request above which other prices hold for all of it, and those prices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub long: Option<LongContext>,
    /// Whether output may be billed that no stream shows: reasoning of which nothing or a summary is sent. Absent: it
    /// may, wherever the protocol allows it. `false` for models that do not reason, and for servers that show all of
    /// it; then a stream that is cut costs what it showed, and not all that it may have been.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_reasoning: Option<bool>,
}

/// Prices of a request with a long input.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LongContext {
    /// Held by a request with more input tokens than this.
    pub above: u64,
    /// Input.
    pub input: PerMillion,
    /// Output.
    pub output: PerMillion,
    /// Input read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_read: Option<PerMillion>,
}
