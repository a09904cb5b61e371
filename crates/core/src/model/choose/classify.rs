//! What kind of work a call is.

use super::super::route::SubtaskClass;

/// Output limit up to which a call without tools is a small one, in tokens: titles, summaries, yes or no.
const SMALL_OUTPUT_MAX: u64 = 1024;
/// Words in the names of vendors' small models.
const SMALL_WORDS: [&str; 4] = ["haiku", "mini", "nano", "flash"];

/// What a request shows of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Features {
    /// It offers tools to the model.
    pub tools: bool,
    /// The output limit that its client sets, in tokens.
    pub max_output: Option<u64>,
}

/// The class of a call, and what says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtask {
    /// The class.
    pub class: SubtaskClass,
    /// Why.
    pub why: String,
}

/// Tells the class of a call: by the header `x-flyball-subtask` if it names one, else by the model's name, else by
/// the request's features.
pub fn classify(header: Option<&str>, model: &str, features: Features) -> Subtask {
    let of = |class, why: String| Subtask { class, why };
    if let Some(class) = header.and_then(|text| SubtaskClass::of(text.trim())) {
        return of(class, "the client says so (x-flyball-subtask)".to_owned());
    }
    if let Some(class @ (SubtaskClass::Small | SubtaskClass::Large)) = SubtaskClass::of(model) {
        return of(class, format!("{model:?} is asked for"));
    }
    // By whole words: "gemini" is not "mini".
    let mut words = model.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_ascii_lowercase);
    if let Some(word) = words.find(|word| SMALL_WORDS.contains(&word.as_str())) {
        return of(SubtaskClass::Small, format!("a small model is asked for ({word})"));
    }
    match (features.tools, features.max_output) {
        (false, Some(most)) if most <= SMALL_OUTPUT_MAX => {
            let why = format!("no tools, and at most {most} tokens are asked for");
            of(SubtaskClass::Small, why)
        }
        _ => of(SubtaskClass::Large, "nothing says that it is a small one".to_owned()),
    }
}
