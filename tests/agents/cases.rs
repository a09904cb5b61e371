//! The agents, what their model answers, and what must be known of them afterwards.

use flyball_core::model::{AgentEnding, Protocol, Usage};
use flyball_tests::provider::Reply;
use serde_json::{Value, json};

use crate::install::Installed;
use crate::scene::{Setting, converges, parks_and_goes_on, waits_and_goes_on};

/// One test.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// The preset whose program must be cached.
    pub(crate) preset: Option<&'static str>,
    pub(crate) run: fn(Option<&Installed>),
}

/// All of them.
pub(crate) fn all() -> Vec<Case> {
    let own = |name, run| Case { name, preset: None, run };
    let real = |name, preset, run| Case { name, preset: Some(preset), run };
    vec![
        own("builtin_over_anthropic", builtin_over_anthropic),
        own("builtin_over_chat", builtin_over_chat),
        own("builtin_over_responses", builtin_over_responses),
        own("builtin_whose_budget_ends", builtin_budget),
        real("claude_code", "claude-code", claude_code),
        real("claude_code_whose_budget_ends", "claude-code", claude_code_budget),
        real("claude_code_whose_quota_ends", "claude-code", claude_code_quota),
        real("codex", "codex", codex),
        real("codex_whose_budget_ends", "codex", codex_budget),
        real("codex_whose_quota_ends", "codex", codex_quota),
        real("mini_swe_agent", "mini-swe-agent", mini_swe_agent),
        real("mini_swe_agent_whose_budget_ends", "mini-swe-agent", mini_swe_agent_budget),
        real("mini_swe_agent_whose_quota_ends", "mini-swe-agent", mini_swe_agent_quota),
    ]
}

const LOOK: &str = "sh test.sh; cat add.sh";
const MEND: &str = "sed -i 's/[$]1 - [$]2/$1 + $2/' add.sh && sh test.sh";

/// Usage that no estimate would hit, cached and reasoning tokens included.
fn usage(turn: u64) -> Usage {
    Usage {
        input_total: 1234 + 100 * turn,
        cache_read: 400 * turn,
        output_total: 77 + turn,
        ..Usage::default()
    }
}

fn turns(replies: Vec<Reply>) -> Vec<Reply> {
    (0..).zip(replies).map(|(turn, reply)| reply.using(usage(turn))).collect()
}

fn shell(name: &str, field: &str) -> impl Fn(&str) -> Reply {
    let (name, field) = (name.to_owned(), field.to_owned());
    move |line| {
        let arguments: Value = json!({field.as_str(): line});
        Reply::tool(&name, arguments)
    }
}

fn builtin(protocol: Protocol) {
    let shell = shell("shell", "command");
    let report = json!({"note": "swapped the operator", "claim": "done"});
    let ended = converges(Setting {
        agent: "builtin",
        protocol,
        installed: None,
        turns: turns(vec![shell(LOOK), shell(MEND), Reply::tool("report", report)]),
    });
    let account = ended.account;
    assert_eq!((account.ending, account.word.as_str()), (AgentEnding::Finished, "report"));
    assert_eq!((account.turns, account.tools, account.unread), (3, 3, 0));
    assert_eq!((account.tokens_off(), account.reported), (Some(0), account.metered));
    assert!(account.program.contains(env!("CARGO_PKG_VERSION")), "{}", account.program);
    assert_eq!(ended.note, "swapped the operator");
}

fn builtin_over_anthropic(_: Option<&Installed>) {
    builtin(Protocol::Anthropic);
}

fn builtin_over_chat(_: Option<&Installed>) {
    builtin(Protocol::Chat);
}

fn builtin_over_responses(_: Option<&Installed>) {
    builtin(Protocol::Responses);
}

fn claude_code(installed: Option<&Installed>) {
    let bash = shell("Bash", "command");
    let ended = converges(Setting {
        agent: "claude-code",
        protocol: Protocol::Anthropic,
        installed,
        turns: turns(vec![bash(LOOK), bash(MEND), Reply::text("The operator was wrong.")]),
    });
    let account = ended.account;
    assert_eq!((account.ending, account.word.as_str()), (AgentEnding::Finished, "success"));
    assert_eq!((account.tools, account.unread, account.tokens_off()), (2, 0, Some(0)));
    assert!(account.program.starts_with("2."), "{}", account.program);
    assert_eq!(ended.note, "The operator was wrong.");
}

fn codex(installed: Option<&Installed>) {
    let exec = shell("exec_command", "cmd");
    let ended = converges(Setting {
        agent: "codex",
        protocol: Protocol::Responses,
        installed,
        turns: turns(vec![exec(LOOK), exec(MEND), Reply::text("The operator was wrong.")]),
    });
    let account = ended.account;
    assert_eq!((account.ending, account.word.as_str()), (AgentEnding::Finished, "turn.completed"));
    assert_eq!((account.tools, account.unread, account.tokens_off()), (2, 0, Some(0)));
    assert!(account.program.contains("0."), "{}", account.program);
    assert_eq!(ended.note, "The operator was wrong.");
}

fn mini_swe_agent(installed: Option<&Installed>) {
    let bash = shell("bash", "command");
    let submit = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT";
    let ended = converges(Setting {
        agent: "mini-swe-agent",
        protocol: Protocol::Chat,
        installed,
        turns: turns(vec![bash(LOOK), bash(MEND), bash(submit)]),
    });
    let account = ended.account;
    assert_eq!((account.ending, account.word.as_str()), (AgentEnding::Finished, "Submitted"));
    assert_eq!((account.turns, account.unread, account.tokens_off()), (3, 0, Some(0)));
    assert!(account.program.starts_with("2."), "{}", account.program);
}

/// Two looks, for which there is budget, and then the work.
fn looks_and_work(tool: &dyn Fn(&str) -> Reply, last: Reply) -> Vec<Reply> {
    turns(vec![tool(LOOK), tool(LOOK), tool(MEND), last])
}

fn claude_code_setting(installed: Option<&Installed>) -> Setting<'_> {
    let turns = looks_and_work(&shell("Bash", "command"), Reply::text("Done."));
    Setting { agent: "claude-code", protocol: Protocol::Anthropic, installed, turns }
}

fn codex_setting(installed: Option<&Installed>) -> Setting<'_> {
    let turns = looks_and_work(&shell("exec_command", "cmd"), Reply::text("Done."));
    Setting { agent: "codex", protocol: Protocol::Responses, installed, turns }
}

fn mini_swe_agent_setting(installed: Option<&Installed>) -> Setting<'_> {
    let bash = shell("bash", "command");
    let turns = looks_and_work(&bash, bash("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"));
    Setting { agent: "mini-swe-agent", protocol: Protocol::Chat, installed, turns }
}

fn builtin_budget(_: Option<&Installed>) {
    let report = Reply::tool("report", json!({"note": "swapped the operator"}));
    let turns = looks_and_work(&shell("shell", "command"), report);
    let (agent, protocol, installed) = ("builtin", Protocol::Chat, None);
    parks_and_goes_on(Setting { agent, protocol, installed, turns });
}

fn claude_code_budget(installed: Option<&Installed>) {
    parks_and_goes_on(claude_code_setting(installed));
}

fn claude_code_quota(installed: Option<&Installed>) {
    waits_and_goes_on(claude_code_setting(installed));
}

fn codex_budget(installed: Option<&Installed>) {
    parks_and_goes_on(codex_setting(installed));
}

fn codex_quota(installed: Option<&Installed>) {
    waits_and_goes_on(codex_setting(installed));
}

fn mini_swe_agent_budget(installed: Option<&Installed>) {
    parks_and_goes_on(mini_swe_agent_setting(installed));
}

fn mini_swe_agent_quota(installed: Option<&Installed>) {
    waits_and_goes_on(mini_swe_agent_setting(installed));
}
