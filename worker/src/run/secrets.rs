//! The secrets that a loop names: asked for when the run begins, with the proof that it is the owner, and
//! held for as long as the run lasts.

use std::collections::BTreeSet;

use flyball_core::redact::Patterns;
use flyball_core::secret::SecretValue;
use flyball_core::spec::{LoopSpec, SecretSpec};
use flyball_proto::v1::FetchSecretsRequest;
use flyball_proto::v1::secrets_client::SecretsClient;
use flyball_sandbox::SECRETS_DIR;

use super::Run;
use super::halt::Halt;

/// The values of one run.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    held: Vec<(SecretSpec, SecretValue)>,
    patterns: Patterns,
}

impl Secrets {
    /// What a step with this stream is given of them, as environment: values, and paths of files.
    pub(super) fn env(&self, stream: &str) -> Vec<(String, String)> {
        let given = self.given(stream).map(|(spec, value)| {
            let text = match spec.file {
                true => format!("{SECRETS_DIR}/{}", spec.name),
                false => value.expose_text().to_owned(),
            };
            (spec.env.clone(), text)
        });
        given.collect()
    }

    /// Names of those that a step with this stream is given as files.
    pub(super) fn files(&self, stream: &str) -> Vec<String> {
        let files = self.given(stream).filter(|(spec, _)| spec.file);
        let names: BTreeSet<String> = files.map(|(spec, _)| spec.name.clone()).collect();
        names.into_iter().collect()
    }

    fn given(&self, stream: &str) -> impl Iterator<Item = &(SecretSpec, SecretValue)> {
        // What proves the result is the same checks once more.
        let asked = match stream.strip_prefix("proof/") {
            Some(name) => format!("check/{name}"),
            None => stream.to_owned(),
        };
        self.held.iter().filter(move |(spec, _)| spec.to.contains(&asked))
    }

    /// What must not be in any output.
    pub(super) fn values(&self) -> Vec<(String, String)> {
        let value = |(spec, value): &(SecretSpec, SecretValue)| {
            (spec.name.clone(), value.expose_text().to_owned())
        };
        self.held.iter().map(value).collect()
    }

    /// A text of the loop's without them.
    pub(super) fn redact(&self, text: &str) -> String {
        self.patterns.redact_text(text)
    }
}

/// Fetches what the loop names. A loop whose secret is missing is parked with that reason.
pub(super) async fn fetch(run: &Run) -> Result<Secrets, Halt> {
    let spec: &LoopSpec = &run.spec;
    if spec.secrets.is_empty() {
        return Ok(Secrets::default());
    }
    let request = FetchSecretsRequest {
        node: run.context.config.node.to_string(),
        incarnation: run.context.incarnation.to_string(),
        namespace: run.id.key.namespace.clone(),
        r#loop: run.id.key.name.clone(),
        uid: run.id.uid.to_string(),
        token: run.id.token.0,
    };
    let answer = run.context.schedulers.ask_each(|connection| {
        let request = request.clone();
        async move { SecretsClient::new(connection).fetch(request).await }
    });
    hold(spec, answer.await.map_err(Halt::not_handed)?.secrets)
}

fn hold(spec: &LoopSpec, fetched: Vec<flyball_proto::v1::FetchedSecret>) -> Result<Secrets, Halt> {
    let mut held = Vec::new();
    for one in &spec.secrets {
        let found = fetched.iter().find(|secret| secret.name == one.name);
        let value = found.and_then(|secret| SecretValue::new(secret.value.to_vec()).ok());
        let Some(value) = value else {
            return Err(Halt::node_fault(&format!("secret {} was not handed over", one.name)));
        };
        held.push((one.clone(), value));
    }
    let known = held.iter().map(|(spec, value)| (spec.name.as_str(), value.expose()));
    let patterns = Patterns::of(known);
    Ok(Secrets { held, patterns })
}
