//! `flyball route`: what would become of a model call, and why.

use clap::{Args, Subcommand};
use flyball_proto::v1::ExplainRouteRequest;

use super::context::Context;
use super::target::{Noun, name_of};
use crate::{Exit, Outcome, objects, view};

/// Arguments of `route`.
#[derive(Debug, Clone, Args)]
pub struct Route {
    #[command(subcommand)]
    action: Action,
}

/// What can be asked of routes.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Say which model of which provider would serve a call, in which order they are asked, and why.
    #[command(
        after_help = "Examples:\n  flyball route explain --model large --loop fix-tests\n  flyball route explain --model claude-opus-4-5 --stall 3 -n team\n\nExit code 1 if nobody would be asked. What rests after failures is known to each worker alone and not seen here."
    )]
    Explain(Explain),
}

/// Arguments of `route explain`.
#[derive(Debug, Clone, Args)]
struct Explain {
    /// The model that the agent asks for; agents of ours ask for `large` and `small`.
    #[arg(long, value_name = "MODEL")]
    model: String,
    /// A loop: its labels, distance and stall count, and its agent says the protocol.
    #[arg(long = "loop", value_name = "LOOP")]
    name: Option<String>,
    /// Class of the call: small, large, review or plan; by default the model's name tells.
    #[arg(long, value_name = "CLASS")]
    subtask: Option<String>,
    /// Iterations in a row without improvement, instead of the loop's.
    #[arg(long, value_name = "N")]
    stall: Option<u32>,
    /// What the agent speaks: anthropic, chat or responses [default: the loop's agent's, or anthropic].
    #[arg(long, value_name = "PROTOCOL")]
    protocol: Option<String>,
    /// A session; each has its share of the deployments.
    #[arg(long, value_name = "TEXT")]
    session: Option<String>,
}

impl Route {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.action {
            Action::Explain(explain) => explain.run(context).await,
        }
    }
}

impl Explain {
    async fn run(self, context: &mut Context<'_>) -> Outcome {
        let name = self.name.as_deref().map(|word| name_of(Noun::Loops, word)).transpose()?;
        let request = ExplainRouteRequest {
            model: self.model,
            protocol: self.protocol.unwrap_or_default(),
            namespace: context.namespace(),
            r#loop: name.unwrap_or_default(),
            subtask: self.subtask.unwrap_or_default(),
            stall: self.stall,
            session: self.session.unwrap_or_default(),
        };
        let mut clients = context.clients().await?;
        let answer = clients.definitions.explain_route(request).await?.into_inner();
        let document = objects::json(&answer.answer_json)?;
        if context.format().is_structured() {
            context.out.document(&document)?;
        } else {
            let text = view::route::text(&document, context.out.has_color());
            context.out.raw(text.as_bytes())?;
        }
        Ok(if answer.served { Exit::Ok } else { Exit::Unsuccessful })
    }
}
