//! What of a custom resource has owners of its own, for managed fields and server-side apply.

use api::managed::{Form, Items, Shape};
use api::schema;

use crate::node::{Additional, Kind, ListType, Node};

/// The metadata of every object.
const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

fn text() -> Shape {
    Shape::new(Form::Text)
}

/// The shape of an object.
pub(crate) fn root(node: &Node) -> Shape {
    fields(node, true)
}

fn shape(node: &Node) -> Shape {
    if node.int_or_string {
        return Shape::new(Form::Any);
    }
    match node.kind {
        Some(Kind::String) => text(),
        Some(Kind::Integer | Kind::Number) => Shape::new(Form::Number),
        Some(Kind::Boolean) => Shape::new(Form::Boolean),
        Some(Kind::Array) => list(node),
        Some(Kind::Object) => fields(node, node.embedded),
        None => Shape { form: Form::Any, atomic: node.map_atomic },
    }
}

fn list(node: &Node) -> Shape {
    let Some(of) = node.items.as_deref() else { return Shape { form: Form::Any, atomic: true } };
    let items = match &node.list {
        Some(ListType::Set) => Items::Set,
        Some(ListType::Map(keys)) => Items::Keyed(
            keys.iter()
                .map(|key| (key.clone(), of.property(key).and_then(|key| key.default.as_deref()).cloned()))
                .collect(),
        ),
        Some(ListType::Atomic) | None => Items::Atomic,
    };
    Shape::new(Form::List(Box::new(shape(of)), items))
}

fn fields(node: &Node, is_resource: bool) -> Shape {
    let mut known: Vec<(Box<str>, Shape)> =
        node.properties.iter().map(|(name, node)| (name.clone(), shape(node))).collect();
    let any = || Some(Box::new(Shape::new(Form::Any)));
    let rest = match node.additional.as_deref() {
        _ if node.preserve => any(),
        Some(Additional::Of(values)) => Some(Box::new(shape(values))),
        Some(Additional::Allowed(true)) => any(),
        _ if known.is_empty() && !is_resource => any(),
        _ => None,
    };
    if is_resource {
        known.retain(|(name, _)| !matches!(&**name, "apiVersion" | "kind" | "metadata"));
        known.push(("apiVersion".into(), text()));
        known.push(("kind".into(), text()));
        known.extend(schema::definition(METADATA).map(|of| ("metadata".into(), Shape::new(Form::BuiltIn(of)))));
        known.sort_by(|a, b| a.0.cmp(&b.0));
    }
    Shape { form: Form::Fields(known.into(), rest), atomic: node.map_atomic }
}

#[cfg(test)]
mod tests {
    use api::managed::{Form, Items};
    use serde_json::json;

    use crate::tests::schema;

    #[test]
    fn lists_and_maps_merge_as_the_schema_says() {
        let schema = schema(json!({"type": "object", "properties": {
            "keyed": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["n"],
                      "items": {"type": "object", "properties": {"n": {"type": "string", "default": "a"}}}},
            "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic", "properties": {"x": {"type": "string"}}},
            "either": {"x-kubernetes-int-or-string": true},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        }}));
        let Form::Fields(fields, None) = schema.shape().form else { panic!("an object without other fields") };
        let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["apiVersion", "either", "free", "keyed", "kind", "metadata", "plain", "set", "whole"]);
        let of = |name: &str| &fields.iter().find(|(own, _)| &**own == name).unwrap().1;
        assert!(matches!(&of("keyed").form, Form::List(_, Items::Keyed(keys)) if keys[0].1 == Some(json!("a"))));
        assert!(matches!(of("set").form, Form::List(_, Items::Set)));
        assert!(matches!(of("plain").form, Form::List(_, Items::Atomic)));
        assert!(matches!(of("either").form, Form::Any));
        assert!(matches!(&of("free").form, Form::Fields(known, Some(_)) if known.is_empty()));
        assert!(of("whole").atomic && !of("free").atomic);
        assert!(matches!(of("metadata").form, Form::BuiltIn(_)));
    }
}
