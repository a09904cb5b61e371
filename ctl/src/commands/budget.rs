//! `flyball budget`: what loops and namespaces may spend on model calls, what they have spent, and more of it.

use clap::{Args, Subcommand};
use flyball_core::ids::check_name;
use flyball_core::model::{Amount, BudgetReport, Limits, Money};
use flyball_proto::v1::{
    BudgetObject, ExtendBudgetRequest, ExtendNamespaceBudgetRequest, GetBudgetRequest,
    GetNamespaceBudgetRequest, ListBudgetsRequest, ListNamespaceBudgetsRequest, SpendAmount,
};
use serde_json::Value;
use tonic::Code;

use super::context::Context;
use crate::output::{Format, Table};
use crate::{Exit, Failure, Outcome, objects, retry};

/// Arguments of `budget`.
#[derive(Debug, Clone, Args)]
pub struct Budget {
    #[command(subcommand)]
    action: Action,
}

/// What can be done with budgets.
#[derive(Debug, Clone, Subcommand)]
enum Action {
    /// Show the budgets of loops, or of namespaces as namespace/NAME.
    Get {
        /// Loops, or namespace/NAME.
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
    /// Show every loop that is bounded or has spent something, and its namespace's budget.
    List {
        /// Of all namespaces.
        #[arg(short = 'A', long)]
        all_namespaces: bool,
    },
    /// Raise the budget of a loop, or of a namespace; loops that were parked for it go on where they were.
    #[command(
        after_help = "Examples:\n  flyball budget extend fix-tests --money 5USD\n  flyball budget extend namespace/team-a --tokens 1000000\n\nWhat is not bounded cannot be raised. The amounts are added to those of the spec."
    )]
    Extend {
        /// A loop, or namespace/NAME.
        name: String,
        /// So much more money, such as 5USD or 0.25.
        #[arg(long, value_name = "AMOUNT")]
        money: Option<Money>,
        /// So many more tokens.
        #[arg(long, value_name = "COUNT")]
        tokens: Option<u64>,
        /// So many more model calls.
        #[arg(long, value_name = "COUNT")]
        calls: Option<u64>,
    },
}

/// Whose budget.
enum Whose {
    Loop(String),
    Namespace(String),
}

impl Whose {
    fn parse(text: &str) -> Result<Self, Failure> {
        let named = |name: &str| {
            check_name(name).map_err(|error| Failure::usage(error.to_string()))?;
            Ok(name.to_owned())
        };
        match text.split_once('/') {
            None => named(text).map(Self::Loop),
            Some(("loop" | "loops", name)) => named(name).map(Self::Loop),
            Some(("namespace" | "namespaces" | "ns", name)) => named(name).map(Self::Namespace),
            Some(_) => Err(Failure::usage(format!(
                "{text:?} is neither a loop nor a namespace: write NAME or namespace/NAME"
            ))),
        }
    }
}

impl Budget {
    pub(super) async fn run(self, context: &mut Context<'_>) -> Outcome {
        match self.action {
            Action::Get { names } => get(context, &names).await,
            Action::List { all_namespaces } => list(context, all_namespaces).await,
            Action::Extend { name, money, tokens, calls } => {
                let by = Amount {
                    tokens: tokens.unwrap_or(0),
                    money: money.unwrap_or_default(),
                    calls: calls.unwrap_or(0),
                };
                extend(context, &name, by).await
            }
        }
    }
}

async fn get(context: &mut Context<'_>, names: &[String]) -> Outcome {
    let mut clients = context.clients().await?;
    let mut found = Vec::new();
    for name in names {
        let object = match Whose::parse(name)? {
            Whose::Loop(name) => {
                let request = GetBudgetRequest { namespace: context.namespace(), r#loop: name };
                clients.budgets.get(request).await?
            }
            Whose::Namespace(namespace) => {
                clients.budgets.get_namespace(GetNamespaceBudgetRequest { namespace }).await?
            }
        };
        found.push(object.into_inner());
    }
    show(context, &found)
}

async fn list(context: &mut Context<'_>, all_namespaces: bool) -> Outcome {
    let mut clients = context.clients().await?;
    let namespace = context.namespaces(all_namespaces);
    let request = ListNamespaceBudgetsRequest { namespace: namespace.clone() };
    let mut found = match clients.budgets.list_namespaces(request).await {
        Ok(answer) => answer.into_inner().budgets,
        // Whoever may see loops may not be allowed to see these.
        Err(status) if status.code() == Code::PermissionDenied => Vec::new(),
        Err(status) => return Err(status.into()),
    };
    let loops = clients.budgets.list(ListBudgetsRequest { namespace }).await?.into_inner();
    found.extend(loops.budgets);
    if found.is_empty() && !context.format().is_structured() {
        context.out.note("no budgets, and nothing spent");
    }
    show(context, &found)
}

async fn extend(context: &mut Context<'_>, name: &str, by: Amount) -> Outcome {
    if by.is_zero() {
        return Err(Failure::usage("say by how much: --money, --tokens or --calls"));
    }
    let whose = Whose::parse(name)?;
    let clients = context.clients().await?;
    let by = SpendAmount { tokens: by.tokens, money_micros: by.money.0, calls: by.calls };
    // Made once, so that a try whose answer was lost is not done again.
    let request_id = uuid::Uuid::new_v4().to_string();
    let namespace = context.namespace();
    let send = || {
        let mut budgets = clients.budgets.clone();
        let (namespace, request_id, by) = (namespace.clone(), request_id.clone(), Some(by));
        let whose = &whose;
        async move {
            match whose {
                Whose::Loop(name) => {
                    let r#loop = name.clone();
                    budgets.extend(ExtendBudgetRequest { namespace, r#loop, by, request_id }).await
                }
                Whose::Namespace(name) => {
                    let namespace = name.clone();
                    let request = ExtendNamespaceBudgetRequest { namespace, by, request_id };
                    budgets.extend_namespace(request).await
                }
            }
        }
    };
    let answered = retry::until_answered(send, |text| context.out.note(text)).await;
    let object = answered.into_result()?;
    show(context, &[object])
}

fn show(context: &mut Context<'_>, found: &[BudgetObject]) -> Outcome {
    let mut table = Table::new(["NAMESPACE", "NAME", "MONEY", "TOKENS", "CALLS", "EXTENDED"]);
    for one in found {
        let name = match one.r#loop.as_str() {
            "" => format!("namespace/{}", one.namespace),
            name => format!("loop/{name}"),
        };
        match context.format() {
            Format::Json | Format::Yaml => context.out.stream_document(&document(one)?)?,
            Format::Name => context.out.line(name)?,
            Format::Table | Format::Wide => {
                let report = report(one)?;
                let [money, tokens, calls] = parts(&report.limits, report.used());
                let extended = match report.extended.is_zero() {
                    true => String::new(),
                    false => report.extended.to_string(),
                };
                table.row([
                    one.namespace.as_str().into(),
                    name.into(),
                    money.into(),
                    tokens.into(),
                    calls.into(),
                    extended.into(),
                ]);
            }
        }
    }
    context.out.table(&mut table)?;
    Ok(Exit::Ok)
}

/// The report with whose it is.
fn document(object: &BudgetObject) -> Result<Value, Failure> {
    let mut document = objects::json(&object.budget_json)?;
    document["namespace"] = object.namespace.as_str().into();
    if !object.r#loop.is_empty() {
        document["loop"] = object.r#loop.as_str().into();
    }
    Ok(document)
}

/// Reads a report.
pub(super) fn report(object: &BudgetObject) -> Result<BudgetReport, Failure> {
    serde_json::from_slice(&object.budget_json)
        .map_err(|error| Failure::unreadable("budget", error))
}

/// Used and bound of money, tokens and calls: `1.25 USD of 5 USD`.
pub(super) fn parts(limits: &Limits, used: Amount) -> [String; 3] {
    let part = |used: String, most: Option<String>| match most {
        Some(most) => format!("{used} of {most}"),
        None => used,
    };
    [
        part(used.money.to_string(), limits.money.map(|most| most.to_string())),
        part(used.tokens.to_string(), limits.tokens.map(|most| most.to_string())),
        part(used.calls.to_string(), limits.calls.map(|most| most.to_string())),
    ]
}
