//! `--config FILE`: every flag of `pintle server` as a YAML key of the same name. The file becomes arguments that stand
//! before those of the command line, so that the latter win.

use std::ffi::OsString;
use std::path::Path;

use anyhow::{Context, Result, bail};
use clap::CommandFactory;
use serde_json::Value;

use crate::cli::Cli;

/// The arguments, with those of the configuration file put in.
pub fn arguments(given: Vec<OsString>) -> Result<Vec<OsString>> {
    if given.get(1).is_none_or(|command| command != "server") {
        return Ok(given);
    }
    let text: Vec<String> = given.iter().map(|argument| argument.to_string_lossy().into_owned()).collect();
    let file = text.iter().enumerate().find_map(|(at, argument)| match argument.strip_prefix("--config") {
        Some("") => text.get(at + 1).cloned(),
        Some(rest) => rest.strip_prefix('=').map(str::to_owned),
        None => None,
    });
    let Some(file) = file else { return Ok(given) };
    let mut all: Vec<OsString> = given[..2].to_vec();
    all.extend(read(Path::new(&file))?.into_iter().map(OsString::from));
    all.extend_from_slice(&given[2..]);
    Ok(all)
}

fn read(file: &Path) -> Result<Vec<String>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("the configuration file {}", file.display()))?;
    from_yaml(&text).with_context(|| format!("the configuration file {}", file.display()))
}

fn from_yaml(text: &str) -> Result<Vec<String>> {
    let value: Value = serde_saphyr::from_str(text).context("it is not YAML")?;
    let keys = match value {
        Value::Null => return Ok(Vec::new()),
        Value::Object(keys) => keys,
        _ => bail!("it must be a mapping of flag names to values"),
    };
    let mut arguments = Vec::new();
    for (key, value) in keys {
        match value {
            Value::Bool(true) => arguments.push(format!("--{key}")),
            // Of a switch that is on by itself, "off" must be said.
            Value::Bool(false) if takes_value(&key) => arguments.push(format!("--{key}=false")),
            Value::Bool(false) | Value::Null => {}
            Value::String(text) => arguments.push(format!("--{key}={text}")),
            Value::Number(number) => arguments.push(format!("--{key}={number}")),
            Value::Array(items) => {
                for item in items {
                    match item {
                        Value::String(text) => arguments.push(format!("--{key}={text}")),
                        other => arguments.push(format!("--{key}={other}")),
                    }
                }
            }
            Value::Object(_) => bail!("{key}: a value or a list is expected, not a mapping"),
        }
    }
    Ok(arguments)
}

fn takes_value(key: &str) -> bool {
    let cli = Cli::command();
    let server = cli.find_subcommand("server");
    let argument = server.and_then(|server| server.get_arguments().find(|own| own.get_long() == Some(key)));
    argument.is_some_and(|own| own.get_action().takes_values())
}

#[cfg(test)]
mod tests {
    use super::from_yaml;

    #[test]
    fn keys_become_flags() {
        let arguments = from_yaml("bind: 127.0.0.1:6443\nno-agent: true\ntls-san: [a, 10.0.0.1]\n").unwrap();
        assert_eq!(arguments, ["--bind=127.0.0.1:6443", "--no-agent", "--tls-san=a", "--tls-san=10.0.0.1"]);
        let off = from_yaml("audit-webhook-batch-throttle-enable: false\nno-agent: false\n").unwrap();
        assert_eq!(off, ["--audit-webhook-batch-throttle-enable=false"]);
        assert!(from_yaml("- a\n").unwrap_err().to_string().contains("mapping"));
    }
}
