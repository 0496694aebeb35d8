//! The arguments of a call: each is taken out by its name, and none may be left over.

use serde_json::{Map, Value};

use super::api::AdminError;
use super::payload::Payload;

/// The arguments of one call, taken out one by one, so that what is left over is what nobody knows.
pub(super) struct Args<'a> {
    verb: &'a str,
    given: Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Args<'a> {
    pub(super) fn of(verb: &'a str, given: Map<String, Value>) -> Self {
        Self { verb, given, known: Vec::new() }
    }

    pub(super) fn flag(&mut self, name: &'static str) -> Result<bool, AdminError> {
        match self.take(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    pub(super) fn text(&mut self, name: &'static str) -> Result<String, AdminError> {
        match self.take(name) {
            Some(Value::String(text)) => Ok(text),
            _ => Err(self.wrong(name, "a string, and has to be given")),
        }
    }

    pub(super) fn text_if_given(&mut self, name: &'static str) -> Result<Option<String>, AdminError> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    pub(super) fn number(&mut self, name: &'static str) -> Result<u64, AdminError> {
        self.number_if_given(name)?.ok_or_else(|| self.wrong(name, "a whole number, and has to be given"))
    }

    pub(super) fn number_if_given(&mut self, name: &'static str) -> Result<Option<u64>, AdminError> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(given) => given.as_u64().map(Some).ok_or_else(|| self.wrong(name, "a whole number")),
        }
    }

    pub(super) fn payload_if_given(&mut self, name: &'static str) -> Result<Option<Payload>, AdminError> {
        let Some(text) = self.text_if_given(name)? else { return Ok(None) };
        let payload = Payload::try_from(text);
        payload.map(Some).map_err(|why| AdminError::usage(format!("{}: the argument \"{name}\" {why}", self.verb)))
    }

    pub(super) fn texts(&mut self, name: &'static str) -> Result<Vec<String>, AdminError> {
        let given = match self.take(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(given)) => given,
            Some(_) => return Err(self.wrong(name, "a list of strings")),
        };
        let texts = given.into_iter().map(|one| match one {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong(name, "a list of strings")),
        });
        texts.collect()
    }

    pub(super) fn end(self) -> Result<(), AdminError> {
        let Some(stray) = self.given.keys().next() else { return Ok(()) };
        let known = if self.known.is_empty() { "it takes none".to_owned() } else { self.known.join(", ") };
        Err(AdminError::usage(format!("{} has no argument {:?}: {known}", self.verb, shown(stray))))
    }

    fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.given.remove(name)
    }

    pub(super) fn wrong(&self, name: &str, right: &str) -> AdminError {
        AdminError::usage(format!("{}: the argument \"{name}\" is {right}", self.verb))
    }
}

/// The beginning of a text that came from outside: an error repeats a word of it, not two megabytes.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 120;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
