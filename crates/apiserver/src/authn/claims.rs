//! From a token's claims to a caller: the checks and mappings of one issuer.
//!
//! Pure. Upstream: apiserver/plugin/pkg/authenticator/token/oidc.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use cel::{Environment, ObjectType, Program, Type, Value};
use serde_json::Value as Json;

use super::{AUTHENTICATED, Caller};

const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

static USER: LazyLock<Type> = LazyLock::new(|| {
    let text = Type::STRING;
    let extra = Type::map(Type::STRING, Type::list(text.clone()));
    let fields = [("username", text.clone()), ("uid", text.clone()), ("groups", Type::list(text)), ("extra", extra)];
    let fields = fields.into_iter().map(|(name, ty)| (name.to_owned(), ty));
    Type::object(ObjectType::plain("kubernetes.UserInfo", fields))
});

/// A compiled expression.
#[derive(Debug)]
pub struct Expression {
    pub text: String,
    pub program: Program,
}

impl Expression {
    /// Over `claims`.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn over_claims(text: &str, condition: bool) -> Result<Self, String> {
        let claims = Type::map(Type::STRING, Type::DYN);
        Self::compile(Environment::new().variable("claims", claims), text, condition)
    }

    /// Over `user`.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn over_user(text: &str) -> Result<Self, String> {
        Self::compile(Environment::new().variable("user", USER.clone()), text, true)
    }

    fn compile(environment: Environment, text: &str, condition: bool) -> Result<Self, String> {
        let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"))?;
        if condition && !matches!(program.result_type(), Type::Bool) {
            return Err("must evaluate to bool".to_owned());
        }
        Ok(Self { text: text.to_owned(), program })
    }

    fn value(&self, name: &str, value: Value<'_>) -> Result<Json, String> {
        let failed = |why: String| format!("expression '{}' resulted in error: {why}", self.text);
        let (value, _) =
            self.program.evaluate(&[(name, value)], cel::PER_CALL_LIMIT).map_err(|error| failed(error.to_string()))?;
        value.to_json().map_err(failed)
    }
}

/// Where a part of the caller comes from.
#[derive(Debug)]
pub enum Source {
    Claim { name: String, prefix: String },
    Expression(Expression),
}

/// A condition with what is said when it does not hold.
#[derive(Debug)]
pub struct Condition {
    pub expression: Expression,
    pub message: String,
}

/// What makes a caller of claims.
#[derive(Debug)]
pub struct Mapping {
    pub username: Source,
    pub groups: Option<Source>,
    pub uid: Option<Source>,
    pub extra: Vec<(String, Expression)>,
    /// Claims that must have that value.
    pub required: Vec<(String, String)>,
    pub conditions: Vec<Condition>,
    pub user_conditions: Vec<Condition>,
}

impl Mapping {
    /// The caller.
    ///
    /// # Errors
    /// What the claims lack, in upstream's words.
    pub fn caller(&self, claims: &Json) -> Result<Caller, String> {
        let name = self.username(claims)?;
        let groups = self.groups(claims)?;
        let uid = self.uid(claims)?;
        let extra = self.extra(claims)?;
        for (claim, wanted) in &self.required {
            match claims.get(claim) {
                None => return Err(format!("oidc: required claim {claim} not present in ID token")),
                Some(Json::String(own)) if own == wanted => {}
                Some(Json::String(own)) => {
                    return Err(format!(
                        "oidc: required claim {claim} value does not match. Got = {own}, want = {wanted}"
                    ));
                }
                Some(_) => return Err(format!("oidc: parse claim {claim}: it is not a string")),
            }
        }
        hold(&self.conditions, "claims", &|| Value::json(claims))
            .map_err(|why| format!("oidc: error evaluating claim validation expression: {why}"))?;
        let mut caller = Caller { name, uid, groups, extra };
        if !self.user_conditions.is_empty() {
            let user = serde_json::json!({
                "username": caller.name, "uid": caller.uid, "groups": caller.groups, "extra": caller.extra,
            });
            hold(&self.user_conditions, "user", &|| Value::typed(&user, &USER))
                .map_err(|why| format!("oidc: error evaluating user info validation rule: {why}"))?;
        }
        if !caller.is_in(AUTHENTICATED) {
            caller.groups.push(AUTHENTICATED.to_owned());
        }
        Ok(caller)
    }

    fn username(&self, claims: &Json) -> Result<String, String> {
        match &self.username {
            Source::Expression(expression) => match expression.value("claims", Value::json(claims)) {
                Ok(Json::String(name)) if !name.is_empty() => Ok(name),
                Ok(Json::String(_)) => Err("oidc: error evaluating username claim expression: it is empty".to_owned()),
                Ok(_) => {
                    Err("oidc: error evaluating username claim expression: username claim expression must return \
                              a string"
                        .to_owned())
                }
                Err(why) => Err(format!("oidc: error evaluating username claim expression: {why}")),
            },
            Source::Claim { name, prefix } => {
                let found = match claims.get(name) {
                    None => Err("claim not present".to_owned()),
                    Some(Json::String(found)) => Ok(found),
                    Some(_) => Err("it is not a string".to_owned()),
                };
                let found = found.map_err(|why| format!("oidc: parse username claims {name:?}: {why}"))?;
                if name == "email" {
                    match claims.get("email_verified") {
                        None | Some(Json::Bool(true)) => {}
                        Some(Json::Bool(false)) => return Err("oidc: email not verified".to_owned()),
                        Some(_) => return Err("oidc: parse 'email_verified' claim: it is not a bool".to_owned()),
                    }
                }
                Ok(format!("{prefix}{found}"))
            }
        }
    }

    fn groups(&self, claims: &Json) -> Result<Vec<String>, String> {
        match &self.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(expression)) => expression
                .value("claims", Value::json(claims))
                .and_then(|value| texts(&value).ok_or_else(|| "it is neither a string nor a list of them".to_owned()))
                .map_err(|why| format!("oidc: error evaluating group claim expression: {why}")),
            Some(Source::Claim { name, prefix }) => {
                // A user without groups may lack the claim.
                let Some(value) = claims.get(name) else { return Ok(Vec::new()) };
                let groups = match value {
                    Json::String(one) => vec![one.clone()],
                    _ => texts(value).ok_or_else(|| {
                        format!("oidc: parse groups claim {name:?}: it is neither a string nor a list of them")
                    })?,
                };
                Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }

    fn uid(&self, claims: &Json) -> Result<String, String> {
        let text = |value: Option<&Json>| value.and_then(Json::as_str).map(str::to_owned);
        match &self.uid {
            None => Ok(String::new()),
            Some(Source::Claim { name, .. }) => {
                text(claims.get(name)).ok_or_else(|| format!("oidc: parse uid claim {name:?}: claim not present"))
            }
            Some(Source::Expression(expression)) => {
                let value = expression.value("claims", Value::json(claims));
                let value = value.map_err(|why| format!("oidc: error evaluating uid claim expression: {why}"))?;
                text(Some(&value)).ok_or_else(|| "oidc: uid claim expression must return a string".to_owned())
            }
        }
    }

    fn extra(&self, claims: &Json) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut all = BTreeMap::new();
        if let Some(id) = claims.get("jti").and_then(Json::as_str) {
            all.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
        }
        for (key, expression) in &self.extra {
            let values = expression
                .value("claims", Value::json(claims))
                .and_then(|value| texts(&value).ok_or_else(|| "it is neither a string nor a list of them".to_owned()))
                .map_err(|why| format!("oidc: error evaluating extra claim expression: {why}"))?;
            if !values.is_empty() {
                all.insert(key.clone(), values);
            }
        }
        Ok(all)
    }
}

/// A string or a list of strings; what is empty or null is left out.
fn texts(value: &Json) -> Option<Vec<String>> {
    let list = match value {
        Json::Null => return Some(Vec::new()),
        Json::String(text) => vec![text.clone()],
        Json::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>()?,
        _ => return None,
    };
    Some(list.into_iter().filter(|text| !text.is_empty()).collect())
}

fn hold<'a>(list: &[Condition], name: &str, value: &dyn Fn() -> Value<'a>) -> Result<(), String> {
    for condition in list {
        if condition.expression.value(name, value())? != Json::Bool(true) {
            let (text, message) = (&condition.expression.text, &condition.message);
            return Err(match message.is_empty() {
                true => format!("validation expression '{text}' failed"),
                false => format!("validation expression '{text}' failed: {message}"),
            });
        }
    }
    Ok(())
}
