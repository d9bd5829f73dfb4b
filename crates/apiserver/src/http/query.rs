//! Query parameters of resource requests.

use std::borrow::Cow;
use std::time::Duration;

use api::call::FieldValidation;
use api::meta::v1::DeleteOptions;
use api::{FieldErrors, Options, Path, Status, Verb};

use super::duration;

/// Longest `fieldManager` (upstream's `FieldManagerMaxLength`).
const FIELD_MANAGER_LEN_MAX: usize = 128;

/// The parameters as they came, in order.
#[derive(Debug, Default)]
pub struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// Upstream's `ValidateDryRun`.
pub fn check_dry_run<T: AsRef<str>>(errors: &mut FieldErrors, asked: &[T]) {
    if asked.iter().any(|value| value.as_ref() != "All") {
        let asked: Vec<&str> = asked.iter().map(AsRef::as_ref).collect();
        errors.not_supported(&Path::new("dryRun"), asked, &["All"]);
    }
}

/// Upstream's `ValidateFieldManager`: not too long, and all of it can be printed.
fn check_manager(errors: &mut FieldErrors, name: &str) {
    let path = Path::new("fieldManager");
    if name.len() > FIELD_MANAGER_LEN_MAX {
        errors.too_long(&path, FIELD_MANAGER_LEN_MAX);
    }
    for (position, character) in name.char_indices().filter(|(_, character)| !is_printed(*character)) {
        let code = u32::from(character);
        errors.invalid(&path, name, format!("invalid character U+{code:04X} (at position {position})"));
    }
}

/// As Go's `unicode.IsPrint`, of what is in use: of all spaces only the plain one is.
fn is_printed(character: char) -> bool {
    let format = matches!(
        character,
        '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    );
    let private = matches!(character, '\u{e000}'..='\u{f8ff}' | '\u{f0000}'..);
    character == ' ' || !(character.is_control() || character.is_whitespace() || format || private)
}

impl<'a> Query<'a> {
    pub fn parse(text: Option<&'a str>) -> Self {
        Self(form_urlencoded::parse(text.unwrap_or_default().as_bytes()).collect())
    }

    /// The first value of a parameter.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own == key).map(|(_, value)| &**value)
    }

    /// All values of a parameter.
    pub fn all<'b>(&'b self, key: &'b str) -> impl Iterator<Item = &'b str> {
        self.0.iter().filter(move |(own, _)| own == key).map(|(_, value)| &**value)
    }

    /// Whether a parameter is there at all.
    pub fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A flag in the spelling Go takes; absent or empty is `None`, present without a value is `true` as upstream's
    /// conversion has it.
    ///
    /// # Errors
    /// 400 in upstream's words.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, Status> {
        match self.get(key) {
            None => Ok(None),
            // Anything that is not a "no" is a yes (apimachinery `Convert_Slice_string_To_bool`).
            Some(value) => Ok(Some(!matches!(value.to_ascii_lowercase().as_str(), "0" | "false"))),
        }
    }

    fn number(&self, key: &str) -> Result<Option<i64>, Status> {
        let Some(text) = self.get(key).filter(|text| !text.is_empty()) else { return Ok(None) };
        let bad = |_| Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"));
        text.parse().map(Some).map_err(bad)
    }

    fn text(&self, key: &str) -> Option<String> {
        self.get(key).filter(|text| !text.is_empty()).map(str::to_owned)
    }

    /// Whether a watch is asked for.
    pub fn watches(&self) -> bool {
        self.flag("watch").ok().flatten().unwrap_or(false)
    }

    /// How long the request may take: what `timeout` says, `max` at most.
    ///
    /// # Errors
    /// 400 if it is no duration.
    pub fn timeout(&self, max: Duration) -> Result<Duration, Status> {
        let Some(text) = self.get("timeout").filter(|text| !text.is_empty()) else { return Ok(max) };
        let wrong = |why| Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}"));
        let time = duration::parse(text).map_err(wrong)?;
        Ok(if time.is_zero() { max } else { time.min(max) })
    }

    /// The options of a request.
    ///
    /// # Errors
    /// 400 for values of the wrong type, 422 for values that are not allowed.
    pub fn options(&self, verb: Verb) -> Result<Options, Status> {
        let not_negative = |number: Option<i64>| number.and_then(|number| u64::try_from(number).ok());
        let mut errors = FieldErrors::new();
        let dry_runs: Vec<&str> = self.all("dryRun").collect();
        let field_manager = self.text("fieldManager");
        check_manager(&mut errors, field_manager.as_deref().unwrap_or_default());
        check_dry_run(&mut errors, &dry_runs);
        let field_validation = match self.get("fieldValidation").unwrap_or_default() {
            "" | "Warn" => FieldValidation::Warn,
            "Ignore" => FieldValidation::Ignore,
            "Strict" => FieldValidation::Strict,
            other => {
                let path = Path::new("fieldValidation");
                errors.not_supported(&path, other, &["", "Ignore", "Strict", "Warn"]);
                FieldValidation::Warn
            }
        };
        let kind = match verb {
            Verb::Create => Some("CreateOptions"),
            Verb::Update => Some("UpdateOptions"),
            Verb::Patch => Some("PatchOptions"),
            Verb::Delete | Verb::DeleteCollection => Some("DeleteOptions"),
            _ => None,
        };
        if let Some(kind) = kind.filter(|_| !errors.is_empty()) {
            return Err(Status::invalid("meta.k8s.io", kind, "", &errors));
        }
        Ok(Options {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: self.text("resourceVersionMatch"),
            limit: not_negative(self.number("limit")?),
            continue_token: self.text("continue"),
            timeout_seconds: not_negative(self.number("timeoutSeconds")?),
            allow_watch_bookmarks: self.flag("allowWatchBookmarks")?.unwrap_or(false),
            send_initial_events: self.flag("sendInitialEvents")?,
            dry_run: !dry_runs.is_empty(),
            field_manager,
            field_validation,
            force: self.flag("force")?.unwrap_or(false),
            passing: false,
            lean: false,
            metadata_of: None,
        })
    }

    /// The options of a delete that came without a body.
    ///
    /// # Errors
    /// 400 for values of the wrong type.
    pub fn delete_options(&self) -> Result<DeleteOptions, Status> {
        let dry_run: Vec<String> = self.all("dryRun").map(str::to_owned).collect();
        Ok(DeleteOptions {
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            orphan_dependents: self.flag("orphanDependents")?,
            propagation_policy: self.text("propagationPolicy"),
            dry_run: (!dry_run.is_empty()).then_some(dry_run),
            ..DeleteOptions::default()
        })
    }
}
