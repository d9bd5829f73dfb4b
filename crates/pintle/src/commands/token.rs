//! `pintle token`: the tokens with which nodes join, made, listed and deleted through the public API. A token is a
//! Secret in `kube-system`, as upstream and kubeadm have it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use api::core::v1::{Endpoints, Secret};
use api::meta::v1::{DeleteOptions, ObjectMeta};
use api::{Object, Timestamp};
use base::Clock;
use client::{Client, ListOptions};
use pki::bootstrap::{SECRET_NAME_PREFIX, SECRET_TYPE, Token};

use super::{block_on, status};
use crate::cli::token::{CreateArgs, TokenAction};
use crate::layout::Layout;

const NAMESPACE: &str = "kube-system";
const USAGE_PREFIX: &str = "usage-bootstrap-";
const GROUP_PREFIX: &str = "system:bootstrappers:";

pub fn run(action: TokenAction) -> Result<ExitCode> {
    block_on(async {
        match action {
            TokenAction::Create(arguments) => create(&arguments).await?,
            TokenAction::List { place } => list(&Layout::new(&place.data_dir)).await?,
            TokenAction::Delete { place, tokens } => delete(&Layout::new(&place.data_dir), &tokens).await?,
        }
        Ok(ExitCode::SUCCESS)
    })
}

async fn create(arguments: &CreateArgs) -> Result<()> {
    let layout = Layout::new(&arguments.place.data_dir);
    let client = status::connect(&layout)?;
    let token = arguments.token.clone().map_or_else(Token::generate, Ok)?;
    let secret = secret(&token, arguments, Clock::system().now())?;
    // Before there is a token that nobody would hear of.
    let join = join_command(&client, &layout, &token).await?;
    match client.create(secret).await {
        Err(error) if error.is_already_exists() => {
            bail!("there is a token with the id {} already: `pintle token delete {0}` first", token.id());
        }
        made => drop(made.context("making the token's Secret")?),
    }
    if arguments.print_join_command {
        println!("{join}");
        return Ok(());
    }
    println!("{token}");
    if arguments.usages.iter().any(|usage| usage == "authentication") {
        eprintln!("\nA node joins with:\n\n  {join}");
    }
    Ok(())
}

/// What a token is kept as.
fn secret(token: &Token, arguments: &CreateArgs, now: Timestamp) -> Result<Secret> {
    let mut data = BTreeMap::from([
        ("token-id".to_owned(), token.id().to_owned()),
        ("token-secret".to_owned(), token.secret().to_owned()),
    ]);
    if !arguments.ttl.is_zero() {
        let end = now.checked_add(arguments.ttl).context("--ttl: that is beyond the end of time")?;
        // Whole seconds, as upstream writes it.
        data.insert("expiration".to_owned(), Timestamp::from_second(end.as_second())?.to_string());
    }
    for usage in &arguments.usages {
        data.insert(format!("{USAGE_PREFIX}{usage}"), "true".to_owned());
    }
    for group in &arguments.groups {
        ensure!(is_group(group), "--groups: {group} must match \\A{GROUP_PREFIX}[a-z0-9:-]{{0,255}}[a-z0-9]\\z");
    }
    if !arguments.groups.is_empty() {
        data.insert("auth-extra-groups".to_owned(), arguments.groups.join(","));
    }
    if let Some(description) = &arguments.description {
        data.insert("description".to_owned(), description.clone());
    }
    Ok(Secret {
        metadata: ObjectMeta {
            name: Some(format!("{SECRET_NAME_PREFIX}{}", token.id())),
            namespace: Some(NAMESPACE.to_owned()),
            ..Default::default()
        },
        type_: Some(SECRET_TYPE.to_owned()),
        string_data: Some(data),
        ..Default::default()
    })
}

fn is_group(group: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = group.strip_prefix(GROUP_PREFIX).unwrap_or_default().as_bytes();
    let last = rest.last().is_some_and(|byte| letter(*byte));
    last && rest.len() <= 256 && rest.iter().all(|byte| letter(*byte) || matches!(byte, b':' | b'-'))
}

/// How a node joins: where the API is, as the Service `kubernetes` says, and the pin of the CA that signs.
async fn join_command(client: &Client, layout: &Layout, token: &Token) -> Result<String> {
    let endpoints = client.get::<Endpoints>("default", "kubernetes").await.context("asking where the API is")?;
    let mut subsets = endpoints.subsets.iter().flatten();
    let found = subsets.find_map(|subset| {
        let address: IpAddr = subset.addresses.as_ref()?.first()?.ip.parse().ok()?;
        let port = u16::try_from(subset.ports.as_ref()?.first()?.port).ok()?;
        Some(SocketAddr::new(address, port))
    });
    let server = found.context("the Endpoints default/kubernetes have no address")?;
    let path = layout.pki().join("ca.crt");
    let ca = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let pin = pki::spki_hash(&ca)?;
    Ok(format!("pintle agent --server https://{server} --token {token} --ca-pin {pin}"))
}

async fn list(layout: &Layout) -> Result<()> {
    let client = status::connect(layout)?;
    let options = ListOptions {
        namespace: Some(NAMESPACE.to_owned()),
        field_selector: Some(format!("type={SECRET_TYPE}")),
        ..Default::default()
    };
    let secrets = client.list::<Secret>(&options).await.context("asking for the tokens")?;
    let now = Clock::system().now();
    let mut rows = vec![["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"].map(str::to_owned)];
    rows.extend(secrets.items.iter().map(|secret| row(secret, now)));
    print!("{}", table(&rows));
    Ok(())
}

/// A token as kubeadm shows it.
fn row(secret: &Secret, now: Timestamp) -> [String; 6] {
    let text = |key: &str| {
        let value = secret.data.as_ref().and_then(|data| data.get(key));
        value.map(|value| String::from_utf8_lossy(&value.0).into_owned()).filter(|value| !value.is_empty())
    };
    let or_none = |value: Option<String>| value.unwrap_or_else(|| "<none>".to_owned());
    let token = match (text("token-id"), text("token-secret")) {
        (Some(id), Some(secret)) => format!("{id}.{secret}"),
        _ => format!("<no token in {}>", secret.name()),
    };
    let (ttl, expires) = match text("expiration").map(|end| (end.parse::<Timestamp>(), end)) {
        None => ("<forever>".to_owned(), "<never>".to_owned()),
        Some((Err(_), _)) => ("<invalid>".to_owned(), "<invalid>".to_owned()),
        Some((Ok(end), shown)) => (left(end.as_second() - now.as_second()), shown),
    };
    let data = secret.data.iter().flatten();
    let usages = data.filter(|(_, value)| value.0 == b"true").filter_map(|(key, _)| key.strip_prefix(USAGE_PREFIX));
    let usages = Some(usages.collect::<Vec<_>>().join(",")).filter(|usages| !usages.is_empty());
    [token, ttl, expires, or_none(usages), or_none(text("description")), or_none(text("auth-extra-groups"))]
}

/// A span as `kubectl` shows short ones.
fn left(seconds: i64) -> String {
    match seconds {
        ..=0 => "<invalid>".to_owned(),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Columns as wide as what is in them.
fn table(rows: &[[String; 6]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

async fn delete(layout: &Layout, tokens: &[String]) -> Result<()> {
    let client = status::connect(layout)?;
    let mut ids = Vec::new();
    for given in tokens {
        match given.parse::<Token>() {
            Ok(token) => ids.push(token.id().to_owned()),
            Err(_) if is_id(given) => ids.push(given.clone()),
            // What was given may be most of a secret: it is not repeated.
            Err(_) => bail!("what is given is neither a token ([a-z0-9]{{6}}.[a-z0-9]{{16}}) nor a token's id"),
        }
    }
    for id in ids {
        let name = format!("{SECRET_NAME_PREFIX}{id}");
        match client.delete::<Secret>(NAMESPACE, &name, DeleteOptions::default()).await {
            Err(error) if error.is_not_found() => bail!("there is no token with the id {id}"),
            done => drop(done.with_context(|| format!("deleting the token {id}"))?),
        }
        println!("bootstrap token {id:?} deleted");
    }
    Ok(())
}

fn is_id(text: &str) -> bool {
    text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    fn arguments(words: &[&str]) -> CreateArgs {
        let words = ["pintle", "token", "create"].iter().chain(words);
        let Command::Token(all) = Cli::parse_from(words).command else { panic!("another command") };
        let TokenAction::Create(arguments) = all.action else { panic!("another action") };
        arguments
    }

    fn made(words: &[&str]) -> Result<Secret> {
        let arguments = arguments(words);
        secret(&"abcdef.0123456789abcdef".parse().unwrap(), &arguments, "2026-01-01T00:00:00.7Z".parse().unwrap())
    }

    /// As the API gives it back.
    fn stored(words: &[&str]) -> Secret {
        let mut secret = made(words).unwrap();
        let data = secret.string_data.take().unwrap();
        secret.data = Some(data.into_iter().map(|(key, text)| (key, api::ByteString(text.into_bytes()))).collect());
        secret
    }

    #[test]
    fn a_token_is_kept_as_upstream_keeps_it() {
        let secret = made(&["--description", "rack 7"]).unwrap();
        assert_eq!((secret.name(), secret.namespace()), ("bootstrap-token-abcdef", "kube-system"));
        let data = secret.string_data.unwrap();
        let wanted = [
            ("auth-extra-groups", "system:bootstrappers:nodes"),
            ("description", "rack 7"),
            ("expiration", "2026-01-02T00:00:00Z"),
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("usage-bootstrap-authentication", "true"),
        ];
        assert_eq!(data, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
        assert!(!made(&["--ttl", "0"]).unwrap().string_data.unwrap().contains_key("expiration"));
        let refused = made(&["--groups", "system:masters"]).unwrap_err().to_string();
        assert!(refused.starts_with("--groups: system:masters must match"), "{refused}");
    }

    #[test]
    fn tokens_are_listed_as_kubeadm_lists_them() {
        let now = "2026-01-01T00:30:00Z".parse().unwrap();
        let full = stored(&["--usages", "signing,authentication", "--description", "x"]);
        let wanted = ["23h", "2026-01-02T00:00:00Z", "authentication,signing", "x", "system:bootstrappers:nodes"];
        assert_eq!(row(&full, now)[1..], wanted);
        let endless = stored(&["--ttl", "0", "--usages", "signing"]);
        assert_eq!(row(&endless, now)[1..5], ["<forever>", "<never>", "signing", "<none>"]);
        assert_eq!(row(&full, "2026-02-01T00:00:00Z".parse().unwrap())[1], "<invalid>");
    }
}
