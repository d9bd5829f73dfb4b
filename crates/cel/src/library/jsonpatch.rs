//! What mutations need to write JSON patches.

use super::text;
use crate::functions::Declaration;
use crate::value::Value;

pub(crate) const FUNCTIONS: &[Declaration] =
    &[("jsonpatch.escapeKey string_jsonpatch_escapeKey_string (string) string", |args| {
        Ok(Value::string(text(args, 0)?.replace('~', "~0").replace('/', "~1")))
    })];
