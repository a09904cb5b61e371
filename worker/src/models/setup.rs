//! Routes, providers with their keys, and the agent of a loop: asked for with the proof that this node owns it, when a
//! run begins and again at each iteration's begin. Any scheduler answers; none of it is logged.

use std::collections::BTreeMap;

use flyball_core::ids::{Incarnation, NodeName};
use flyball_core::model::{
    AgentDefinition, ModelRouteSpec, Protocol, ProviderSpec, Routing, preset,
};
use flyball_core::secret::SecretValue;
use flyball_core::spec::AgentSpec;
use flyball_proto::v1;
use flyball_proto::v1::models_client::ModelsClient;
use serde::de::DeserializeOwned;

use super::asking::{AskError, Schedulers};
use crate::link::RunId;

/// Largest answer: two hundred definitions of 64 KiB and their keys.
const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What the gateway needs for one run.
#[derive(Debug, Default)]
pub(crate) struct ModelSetup {
    /// The routes that could take a call of the loop, by name.
    pub(crate) routes: Vec<(String, ModelRouteSpec)>,
    /// The providers that they name, as far as they exist.
    pub(crate) providers: BTreeMap<String, SetProvider>,
    /// How the loop's agent is run; absent for a command.
    pub(crate) agent: Option<AgentDefinition>,
    /// The loop's labels.
    pub(crate) labels: BTreeMap<String, String>,
}

/// A provider with its key.
#[derive(Debug)]
pub(crate) struct SetProvider {
    /// Where it is and how it is asked.
    pub(crate) spec: ProviderSpec,
    /// Absent for a server that asks nobody.
    pub(crate) credential: Option<SecretValue>,
}

impl ModelSetup {
    /// The routes and what the providers speak, for decisions.
    pub(crate) fn routing(&self) -> Routing {
        let spoken = |(name, one): (&String, &SetProvider)| -> (String, Vec<Protocol>) {
            (name.clone(), one.spec.protocols.clone())
        };
        Routing::new(self.routes.clone(), self.providers.iter().map(spoken))
    }
}

/// Asks for what a run's model calls need.
///
/// # Errors
/// [`AskError`]; whether to wait, to go away or to try again.
pub(crate) async fn fetch(
    schedulers: &Schedulers,
    (node, incarnation): (&NodeName, &Incarnation),
    run: &RunId,
    agent: Option<&AgentSpec>,
) -> Result<ModelSetup, AskError> {
    let request = v1::SetupModelsRequest {
        node: node.to_string(),
        incarnation: incarnation.to_string(),
        namespace: run.key.namespace.clone(),
        r#loop: run.key.name.clone(),
        uid: run.uid.to_string(),
        token: run.token.0,
    };
    let answer = schedulers.ask_each(|connection| {
        let request = request.clone();
        let client = ModelsClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX);
        async move { { client }.setup(request).await }
    });
    read(answer.await?, agent)
}

/// Reads an answer; a shipped agent is this program's own.
fn read(answer: v1::ModelSetup, agent: Option<&AgentSpec>) -> Result<ModelSetup, AskError> {
    let labels = answer.labels.into_iter().collect();
    let mut setup = ModelSetup { labels, ..ModelSetup::default() };
    for route in answer.routes {
        let spec = json(&route.spec_json, "route", &route.name)?;
        setup.routes.push((route.name, spec));
    }
    for one in answer.providers {
        let spec: ProviderSpec = json(&one.spec_json, "provider", &one.name)?;
        let credential = match one.credential.is_empty() {
            true if spec.auth.is_some() => {
                let message = format!("the key of provider {} was not handed over", one.name);
                return Err(AskError::Unavailable(message));
            }
            true => None,
            false => Some(SecretValue::new(one.credential.to_vec()).map_err(|invalid| {
                AskError::Missing(format!("the key of provider {} {invalid}", one.name))
            })?),
        };
        setup.providers.insert(one.name, SetProvider { spec, credential });
    }
    let Some(name) = agent.and_then(|agent| agent.uses.as_ref()) else { return Ok(setup) };
    setup.agent = match preset(name) {
        Some(shipped) => Some(shipped),
        None if answer.agent_json.is_empty() => {
            return Err(AskError::Missing(format!("there is no agent {name}")));
        }
        None => Some(json(&answer.agent_json, "agent", name)?),
    };
    Ok(setup)
}

fn json<T: DeserializeOwned>(bytes: &[u8], what: &str, name: &str) -> Result<T, AskError> {
    serde_json::from_slice(bytes)
        .map_err(|error| AskError::Unavailable(format!("{what} {name} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(auth: bool, credential: &str) -> v1::ModelSetup {
        let auth = if auth { r#","auth":{"secret":{"name":"k"}}"# } else { "" };
        let provider = format!(r#"{{"baseUrl":"http://127.0.0.1:1","protocols":["chat"]{auth}}}"#);
        let route = r#"{"tiers":[{"name":"t","deployments":[{"provider":"p"}]}]}"#;
        v1::ModelSetup {
            routes: vec![v1::SetupRoute { name: "r".to_owned(), spec_json: route.into() }],
            providers: vec![v1::SetupProvider {
                name: "p".to_owned(),
                spec_json: provider.into(),
                credential: credential.to_owned().into(),
            }],
            ..v1::ModelSetup::default()
        }
    }

    #[test]
    fn keys_are_held_and_not_shown() {
        let setup = read(answer(true, "sk-12345678"), None).unwrap();
        let held = setup.providers["p"].credential.as_ref().unwrap();
        assert_eq!(held.expose_text(), "sk-12345678");
        assert!(!format!("{setup:?}").contains("12345678"));
        assert_eq!(setup.routing().routes().count(), 1);
        assert!(read(answer(false, ""), None).unwrap().providers["p"].credential.is_none());
        // A provider that asks for a key is never asked without one.
        assert!(matches!(read(answer(true, ""), None), Err(AskError::Unavailable(_))));
        let short = read(answer(true, "abc"), None).unwrap_err();
        assert!(matches!(&short, AskError::Missing(text) if !text.contains("abc")), "{short}");
    }

    #[test]
    fn a_shipped_agent_is_the_workers_own_and_any_other_is_defined() {
        let of = |name: &str, json: &str| {
            let agent = AgentSpec { uses: Some(name.to_owned()), ..AgentSpec::default() };
            let mut answer = answer(false, "");
            answer.agent_json = json.to_owned().into();
            read(answer, Some(&agent)).map(|setup| setup.agent.unwrap().version)
        };
        assert_eq!(of("codex", ""), Ok(preset("codex").unwrap().version));
        assert_eq!(of("own", r#"{"version":"7","command":["a"]}"#), Ok("7".to_owned()));
        assert_eq!(of("own", ""), Err(AskError::Missing("there is no agent own".to_owned())));
        let command = AgentSpec {
            command: Some(flyball_core::spec::Command::Shell("x".into())),
            ..AgentSpec::default()
        };
        assert!(read(answer(false, ""), Some(&command)).unwrap().agent.is_none());
    }
}
