//! The paths of a resource and what can be done there.

use serde_json::{Map, Value, json};

use super::{Dialect, schemas};
use crate::discovery::{Served, ServedSubresource};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PATCHES: &[&str] = &[
    "application/apply-patch+yaml",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
];

/// Query parameters: name, type, what it is for.
type Parameter = (&'static str, &'static str, &'static str);

const DRY_RUN: Parameter = ("dryRun", "string", "All: validate and answer, but do not store.");
const FIELD_MANAGER: Parameter = ("fieldManager", "string", "The name under which the changed fields are owned.");
const FIELD_VALIDATION: Parameter =
    ("fieldValidation", "string", "How unknown and duplicate fields are taken: Ignore, Warn or Strict.");
const FORCE: Parameter = ("force", "boolean", "Apply takes fields over that others own.");
const LABEL_SELECTOR: Parameter = ("labelSelector", "string", "Only objects with these labels.");
const FIELD_SELECTOR: Parameter = ("fieldSelector", "string", "Only objects with these fields.");
const RESOURCE_VERSION: Parameter = ("resourceVersion", "string", "How fresh the answer must be.");
const VERSION_MATCH: Parameter = ("resourceVersionMatch", "string", "NotOlderThan or Exact.");
const TIMEOUT: Parameter = ("timeoutSeconds", "integer", "After how many seconds the request ends.");
const LIMIT: Parameter = ("limit", "integer", "How many objects at most; more are had with continue.");
const CONTINUE: Parameter = ("continue", "string", "Where the list before ended.");
const WATCH: Parameter = ("watch", "boolean", "Answer a stream of changes.");
const BOOKMARKS: Parameter = ("allowWatchBookmarks", "boolean", "The stream may tell how far it has come.");
const INITIAL_EVENTS: Parameter = ("sendInitialEvents", "boolean", "The stream begins with what is there.");
const GRACE: Parameter = ("gracePeriodSeconds", "integer", "Seconds until the object is deleted; 0 is now.");
const ORPHAN: Parameter = ("orphanDependents", "boolean", "Deprecated: use propagationPolicy.");
const PROPAGATION: Parameter = ("propagationPolicy", "string", "Orphan, Background or Foreground.");

const LIST: &[Parameter] = &[
    BOOKMARKS,
    CONTINUE,
    FIELD_SELECTOR,
    LABEL_SELECTOR,
    LIMIT,
    RESOURCE_VERSION,
    VERSION_MATCH,
    INITIAL_EVENTS,
    TIMEOUT,
    WATCH,
];
const WRITE: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION];
const PATCH: &[Parameter] = &[DRY_RUN, FIELD_MANAGER, FIELD_VALIDATION, FORCE];
const DELETE: &[Parameter] = &[DRY_RUN, GRACE, ORPHAN, PROPAGATION];
const DELETE_COLLECTION: &[Parameter] = &[
    CONTINUE,
    DRY_RUN,
    FIELD_SELECTOR,
    GRACE,
    LABEL_SELECTOR,
    LIMIT,
    ORPHAN,
    PROPAGATION,
    RESOURCE_VERSION,
    VERSION_MATCH,
    INITIAL_EVENTS,
    TIMEOUT,
];

/// One operation.
struct Operation<'a> {
    method: &'static str,
    /// `x-kubernetes-action`.
    action: &'static str,
    id: String,
    does: String,
    parameters: &'static [Parameter],
    /// The body's schema and media types.
    body: Option<(String, &'static [&'static str])>,
    /// The answer's schema; `None`: text.
    answer: Option<String>,
    /// Group, version, kind.
    kind: (&'a str, &'a str, &'a str),
}

/// The paths of a resource, each with its operations.
pub(super) fn of(one: &Served, dialect: Dialect) -> Vec<(String, Value)> {
    let has = |verb: &str| one.verbs.iter().any(|own| own == verb);
    let base = if one.group.is_empty() {
        format!("/api/{}", one.version)
    } else {
        format!("/apis/{}/{}", one.group, one.version)
    };
    let plural = &one.plural;
    let collection =
        if one.namespaced { format!("{base}/namespaces/{{namespace}}/{plural}") } else { format!("{base}/{plural}") };
    let item = format!("{collection}/{{name}}");
    let mut paths = Vec::new();
    let mut put = |path: &str, operations: Vec<Operation<'_>>| {
        if !operations.is_empty() {
            paths.push((path.to_owned(), path_item(one, path, &operations, dialect)));
        }
    };
    put(&collection, collection_operations(one, &has));
    put(&item, item_operations(one, &has));
    for sub in &one.subresources {
        put(&format!("{item}/{}", sub.name), subresource_operations(one, sub));
    }
    if one.namespaced && has("list") {
        let mut list = operation(one, "get", "list", &format!("{}ForAllNamespaces", one.kind));
        list.parameters = LIST;
        list.answer = Some(format!("{}List", schemas::name_of(one)));
        list.does = format!("list or watch objects of kind {}", one.kind);
        put(&format!("{base}/{plural}"), vec![list]);
    }
    paths
}

/// `AppsV1`.
fn camel_group_version(one: &Served) -> String {
    let group = if one.group.is_empty() { "core" } else { one.group.strip_suffix(".k8s.io").unwrap_or(&one.group) };
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    };
    group.split('.').chain([&*one.version]).map(capital).collect()
}

/// An operation on whole objects of the resource's kind; `what` ends its id.
fn operation<'a>(one: &'a Served, method: &'static str, action: &'static str, what: &str) -> Operation<'a> {
    let verb = match (method, action) {
        (_, "list") => "list",
        ("get", _) => "read",
        ("post", _) => "create",
        ("put", _) => "replace",
        ("patch", _) => "patch",
        _ => "delete",
    };
    let gv = camel_group_version(one);
    let (parameters, body): (&'static [Parameter], _) = match action {
        "post" | "put" => (WRITE, Some((schemas::name_of(one), &[JSON, YAML] as &[_]))),
        // Without types of ours there is nothing to merge by.
        "patch" if one.built_in.is_none() => (PATCH, Some((format!("{META}Patch"), &PATCHES[..3]))),
        "patch" => (PATCH, Some((format!("{META}Patch"), PATCHES))),
        "delete" => (DELETE, Some((format!("{META}DeleteOptions"), &[JSON] as &[_]))),
        "deletecollection" => (DELETE_COLLECTION, Some((format!("{META}DeleteOptions"), &[JSON] as &[_]))),
        "list" => (LIST, None),
        _ => (&[], None),
    };
    let answer = match action {
        "list" => format!("{}List", schemas::name_of(one)),
        "delete" | "deletecollection" => format!("{META}Status"),
        _ => schemas::name_of(one),
    };
    Operation {
        method,
        action,
        id: format!("{verb}{gv}{what}"),
        does: format!("{verb} the specified {}", one.kind),
        parameters,
        body,
        answer: Some(answer),
        kind: (&one.group, &one.version, &one.kind),
    }
}

fn scoped(one: &Served) -> String {
    if one.namespaced { format!("Namespaced{}", one.kind) } else { one.kind.to_string() }
}

fn collection_operations<'a>(one: &'a Served, has: &dyn Fn(&str) -> bool) -> Vec<Operation<'a>> {
    let mut operations = Vec::new();
    let what = scoped(one);
    if has("list") {
        let does = format!("list or watch objects of kind {}", one.kind);
        operations.push(Operation { does, ..operation(one, "get", "list", &what) });
    }
    if has("create") {
        operations.push(Operation { does: format!("create a {}", one.kind), ..operation(one, "post", "post", &what) });
    }
    if has("deletecollection") {
        let does = format!("delete collection of {}", one.kind);
        operations
            .push(Operation { does, ..operation(one, "delete", "deletecollection", &format!("Collection{what}")) });
    }
    operations
}

fn item_operations<'a>(one: &'a Served, has: &dyn Fn(&str) -> bool) -> Vec<Operation<'a>> {
    let what = scoped(one);
    [("get", "get", "get"), ("update", "put", "put"), ("patch", "patch", "patch"), ("delete", "delete", "delete")]
        .into_iter()
        .filter(|(verb, ..)| has(verb))
        .map(|(_, method, action)| operation(one, method, action, &what))
        .collect()
}

fn subresource_operations<'a>(one: &'a Served, sub: &'a ServedSubresource) -> Vec<Operation<'a>> {
    let connects = matches!(&*sub.name, "attach" | "exec" | "portforward" | "proxy");
    let schema = schemas::definition_of(&sub.group, &sub.version, &sub.kind).map(|found| found.name.to_owned());
    let mut letters = sub.name.chars();
    let name: String = letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect();
    let what = format!("{}{name}", scoped(one));
    let method = |verb: &str| match verb {
        "create" => ("post", "post"),
        "update" => ("put", "put"),
        "patch" => ("patch", "patch"),
        "delete" => ("delete", "delete"),
        _ => ("get", "get"),
    };
    let operation = |verb: &str| {
        let (method, action) = method(verb);
        let mut operation = operation(one, method, action, &what);
        operation.does = format!("{} {} of the specified {}", verb, sub.name, one.kind);
        operation.kind = (&sub.group, &sub.version, &sub.kind);
        if connects || &*sub.name == "log" {
            operation.answer = None;
            operation.body = None;
            operation.parameters = &[];
        } else {
            operation.answer = schema.clone();
            if let (Some((body, types)), Some(schema)) = (&operation.body, &schema)
                && !PATCHES.starts_with(types)
            {
                debug_assert!(!body.is_empty());
                operation.body = Some((schema.clone(), *types));
            }
        }
        if connects {
            let camel = what.clone();
            operation.action = "connect";
            operation.id = format!("connect{}{}{camel}", camel_group_version(one), capital_method(method));
        }
        operation
    };
    sub.verbs.iter().map(|verb| operation(verb)).collect()
}

fn capital_method(method: &str) -> &'static str {
    match method {
        "post" => "Post",
        "put" => "Put",
        "patch" => "Patch",
        "delete" => "Delete",
        _ => "Get",
    }
}

fn path_item(one: &Served, path: &str, operations: &[Operation<'_>], dialect: Dialect) -> Value {
    let mut item = Map::new();
    for operation in operations {
        item.insert(operation.method.into(), written(one, operation, dialect));
    }
    let mut parameters = Vec::new();
    for (name, text) in
        [("name", format!("name of the {}", one.kind)), ("namespace", "the object's namespace".to_owned())]
    {
        if path.contains(&format!("{{{name}}}")) {
            parameters.push(parameter(name, "path", "string", &text, dialect));
        }
    }
    parameters.push(parameter("pretty", "query", "string", "If 'true', the output is indented.", dialect));
    item.insert("parameters".into(), parameters.into());
    Value::Object(item)
}

fn parameter(name: &str, place: &str, type_: &str, text: &str, dialect: Dialect) -> Value {
    let mut value = json!({"name": name, "in": place, "description": text});
    match dialect {
        Dialect::V2 => value["type"] = type_.into(),
        Dialect::V3 => value["schema"] = json!({"type": type_}),
    }
    match (dialect, place) {
        (_, "path") => value["required"] = true.into(),
        (Dialect::V2, _) => value["uniqueItems"] = true.into(),
        _ => {}
    }
    value
}

fn written(one: &Served, operation: &Operation<'_>, dialect: Dialect) -> Value {
    let group = if one.group.is_empty() { "core" } else { one.group.strip_suffix(".k8s.io").unwrap_or(&one.group) };
    let tag = format!("{}_{}", group.replace('.', ""), one.version);
    let mut value = json!({"description": operation.does, "tags": [tag], "operationId": operation.id});
    let query = |(name, type_, text): &Parameter| parameter(name, "query", type_, text, dialect);
    let mut parameters: Vec<Value> = operation.parameters.iter().map(query).collect();
    let answer = match (&operation.answer, dialect) {
        (Some(schema), Dialect::V2) => json!({"description": "OK", "schema": dialect.reference(schema)}),
        (Some(schema), Dialect::V3) => {
            let schema = json!({"schema": dialect.reference(schema)});
            json!({"description": "OK", "content": {JSON: schema, YAML: schema}})
        }
        (None, Dialect::V2) => json!({"description": "OK", "schema": {"type": "string"}}),
        (None, Dialect::V3) => json!({"description": "OK", "content": {"text/plain": {"schema": {"type": "string"}}}}),
    };
    let created = if operation.action == "post" { "201" } else { "200" };
    let mut responses = json!({"200": answer, "401": {"description": "Unauthorized"}});
    responses[created] = responses["200"].clone();
    match (&operation.body, dialect) {
        (Some((schema, _)), Dialect::V2) => {
            let schema = dialect.reference(schema);
            let required = operation.method != "delete";
            parameters.push(json!({"name": "body", "in": "body", "required": required, "schema": schema}));
        }
        (Some((schema, types)), Dialect::V3) => {
            let one = |media: &&str| ((*media).to_owned(), json!({"schema": dialect.reference(schema)}));
            let content: Map<String, Value> = types.iter().map(one).collect();
            value["requestBody"] = json!({"content": content});
            if operation.method != "delete" {
                value["requestBody"]["required"] = true.into();
            }
        }
        (None, _) => {}
    }
    if dialect == Dialect::V2 {
        let consumes = operation.body.as_ref().map_or(&["*/*"] as &[_], |(_, types)| *types);
        value["consumes"] = consumes.into();
        value["produces"] = [JSON, YAML].as_slice().into();
        value["schemes"] = json!(["https"]);
    }
    if !parameters.is_empty() {
        value["parameters"] = parameters.into();
    }
    value["responses"] = responses;
    value["x-kubernetes-action"] = operation.action.into();
    let (group, version, kind) = operation.kind;
    value["x-kubernetes-group-version-kind"] = json!({"group": group, "version": version, "kind": kind});
    value
}
