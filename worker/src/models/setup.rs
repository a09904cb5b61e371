//! Routes, providers with their keys, and the agent of a loop: asked for with the proof that this node owns it, when a
//! run begins and again at each iteration's begin. Any scheduler answers; none of it is logged.

use std::collections::BTreeMap;
use std::time::Duration;

use flyball_core::ids::Incarnation;
use flyball_core::model::{
    AgentDefinition, ModelRouteSpec, Protocol, ProviderSpec, Routing, preset,
};
use flyball_core::secret::SecretValue;
use flyball_core::spec::AgentSpec;
use flyball_proto::transport::{self, Address};
use flyball_proto::v1;
use flyball_proto::v1::models_client::ModelsClient;
use serde::de::DeserializeOwned;
use tonic::{Code, Status};

use crate::config::Config;
use crate::link::RunId;

/// Longest wait for one scheduler's answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);
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

/// Nothing was handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SetupError {
    /// Something that is named does not exist or cannot be opened: somebody has to set it, and the loop waits.
    #[error("{0}")]
    Missing(String),
    /// This node does not own the loop under this token.
    #[error("{0}")]
    NotOwner(String),
    /// Nobody answered, or with something that cannot be read; another try may help.
    #[error("cannot get what model calls need: {0}")]
    Unavailable(String),
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
/// [`SetupError`]; whether to wait, to go away or to try again.
pub(crate) async fn fetch(
    config: &Config,
    incarnation: &Incarnation,
    run: &RunId,
    agent: Option<&AgentSpec>,
) -> Result<ModelSetup, SetupError> {
    let request = v1::SetupModelsRequest {
        node: config.node.to_string(),
        incarnation: incarnation.to_string(),
        namespace: run.key.namespace.clone(),
        r#loop: run.key.name.clone(),
        uid: run.uid.to_string(),
        token: run.token.0,
    };
    let answer = first_answer(&config.schedulers, |address: Address| {
        let (credential, request) = (config.credential.clone(), request.clone());
        async move {
            let connection = transport::connect(&address, credential).await;
            let connection = connection.map_err(|error| Status::unavailable(error.to_string()))?;
            let client = ModelsClient::new(connection).max_decoding_message_size(ANSWER_BYTES_MAX);
            let answer = { client }.setup(request).await?;
            Ok(answer.into_inner())
        }
    });
    match answer.await {
        Ok(answer) => read(answer, agent),
        Err(status) => Err(refusal(&status)),
    }
}

/// The first answer of some scheduler. What all of them would say ends it; of the others' refusals the one that names
/// what is missing is told rather than that somebody could not be reached.
async fn first_answer<T, F: Future<Output = Result<T, Status>>>(
    addresses: &[Address],
    mut ask: impl FnMut(Address) -> F,
) -> Result<T, Status> {
    let mut why = Status::unavailable("no scheduler is known");
    for address in addresses {
        let late = |_| Err(Status::unavailable(format!("{address} did not answer in time")));
        match tokio::time::timeout(ANSWER_MAX, ask(address.clone())).await.unwrap_or_else(late) {
            Ok(answer) => return Ok(answer),
            Err(status) if matches!(status.code(), Code::NotFound | Code::PermissionDenied) => {
                return Err(status);
            }
            Err(_) if why.code() == Code::FailedPrecondition => {}
            Err(status) => why = status,
        }
    }
    Err(why)
}

fn refusal(status: &Status) -> SetupError {
    let message = status.message().to_owned();
    match status.code() {
        Code::NotFound | Code::FailedPrecondition => SetupError::Missing(message),
        Code::PermissionDenied => SetupError::NotOwner(message),
        _ => SetupError::Unavailable(message),
    }
}

/// Reads an answer; a shipped agent is this program's own.
fn read(answer: v1::ModelSetup, agent: Option<&AgentSpec>) -> Result<ModelSetup, SetupError> {
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
                return Err(SetupError::Unavailable(message));
            }
            true => None,
            false => Some(SecretValue::new(one.credential.to_vec()).map_err(|invalid| {
                SetupError::Missing(format!("the key of provider {} {invalid}", one.name))
            })?),
        };
        setup.providers.insert(one.name, SetProvider { spec, credential });
    }
    let Some(name) = agent.and_then(|agent| agent.uses.as_ref()) else { return Ok(setup) };
    setup.agent = match preset(name) {
        Some(shipped) => Some(shipped),
        None if answer.agent_json.is_empty() => {
            return Err(SetupError::Missing(format!("there is no agent {name}")));
        }
        None => Some(json(&answer.agent_json, "agent", name)?),
    };
    Ok(setup)
}

fn json<T: DeserializeOwned>(bytes: &[u8], what: &str, name: &str) -> Result<T, SetupError> {
    serde_json::from_slice(bytes)
        .map_err(|error| SetupError::Unavailable(format!("{what} {name} cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses() -> Vec<Address> {
        ["a", "b", "c"].map(|name| Address::Unix(name.into())).into()
    }

    /// Asks three schedulers of which each says this; the answer, and how many were asked.
    async fn asked(said: [Result<u8, Status>; 3]) -> (Result<u8, (Code, String)>, usize) {
        let (mut said, mut count, addresses) = (said.into_iter(), 0, addresses());
        let answer = first_answer(&addresses, |_| {
            count += 1;
            std::future::ready(said.next().unwrap())
        });
        let answer = answer.await.map_err(|status| (status.code(), status.message().to_owned()));
        (answer, count)
    }

    #[tokio::test]
    async fn another_scheduler_is_asked_where_it_may_help() {
        let gone = || Err(Status::unavailable("gone"));
        let keyless = || Err(Status::failed_precondition("no key"));
        assert_eq!(asked([gone(), keyless(), Ok(1)]).await, (Ok(1), 3));
        let refused = |code, message: &str| Err((code, message.to_owned()));
        assert_eq!(
            asked([keyless(), gone(), gone()]).await,
            (refused(Code::FailedPrecondition, "no key"), 3)
        );
        assert_eq!(asked([gone(), gone(), gone()]).await, (refused(Code::Unavailable, "gone"), 3));
        let missing = Err(Status::not_found("no secret"));
        assert_eq!(asked([missing, Ok(1), Ok(1)]).await, (refused(Code::NotFound, "no secret"), 1));
        let denied = Err(Status::permission_denied("not its run"));
        assert_eq!(
            asked([denied, Ok(1), Ok(1)]).await,
            (refused(Code::PermissionDenied, "not its run"), 1)
        );
    }

    #[test]
    fn refusals_say_what_to_do() {
        assert_eq!(refusal(&Status::not_found("x")), SetupError::Missing("x".to_owned()));
        assert_eq!(refusal(&Status::failed_precondition("x")), SetupError::Missing("x".to_owned()));
        assert_eq!(refusal(&Status::permission_denied("x")), SetupError::NotOwner("x".to_owned()));
        assert_eq!(refusal(&Status::internal("x")), SetupError::Unavailable("x".to_owned()));
    }

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
        assert!(matches!(read(answer(true, ""), None), Err(SetupError::Unavailable(_))));
        let short = read(answer(true, "abc"), None).unwrap_err();
        assert!(matches!(&short, SetupError::Missing(text) if !text.contains("abc")), "{short}");
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
        assert_eq!(of("own", ""), Err(SetupError::Missing("there is no agent own".to_owned())));
        let command = AgentSpec {
            command: Some(flyball_core::spec::Command::Shell("x".into())),
            ..AgentSpec::default()
        };
        assert!(read(answer(false, ""), Some(&command)).unwrap().agent.is_none());
    }
}
