//! Answers that the gateway gives by itself: models and free counts.

use super::call::Call;
use super::json::quoted;

/// The list of models, in one form for every client: OpenAI's and Anthropic's members side by side, and the empty
/// `models` that Codex looks for (it then uses what it knows).
pub fn list_models(models: &[String]) -> String {
    let objects: Vec<String> = models.iter().map(|model| get_model(model)).collect();
    let end =
        |model: Option<&String>| model.map_or_else(|| "null".to_owned(), |model| quoted(model));
    format!(
        r#"{{"object":"list","data":[{}],"has_more":false,"first_id":{},"last_id":{},"models":[]}}"#,
        objects.join(","),
        end(models.first()),
        end(models.last()),
    )
}

/// One model, in the same form.
pub fn get_model(model: &str) -> String {
    let name = quoted(model);
    format!(
        r#"{{"id":{name},"object":"model","type":"model","display_name":{name},"created":0,"created_at":"1970-01-01T00:00:00Z","owned_by":"flyball"}}"#
    )
}

/// Anthropic's answer to a count, where no provider can be asked for one: three bytes a token, which is a little
/// more than text mostly has. Without any answer Claude Code would spend a call to find out.
pub fn count_tokens(body: &[u8], call: &Call) -> String {
    let tokens = super::input_bound(body, call).div_ceil(3);
    format!(r#"{{"input_tokens":{tokens}}}"#)
}
