//! The types of objects as expressions see them when they are checked: those of built-in kinds from their schema, those
//! of custom resources from their definition.
//!
//! Upstream: apiserver/pkg/cel/common (`SchemaDeclType`).

use api::schema::{self, Definition, Type as Schema};
use cel::{ListKind, ObjectType, Size, Type};

use crate::catalog::Resource;

const METADATA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The type of a resource's objects; `None` if their schema is not known.
pub fn of_resource(resource: &Resource) -> Option<Type> {
    match &resource.custom {
        Some(version) => {
            let metadata = schema::definition(METADATA).map_or(Type::DYN, |own| of_definition(own, &mut Vec::new()));
            version.schema.declared_type(resource.kind().kind, metadata)
        }
        None => schema::of_kind(resource.kind()).map(|own| of_definition(own, &mut Vec::new())),
    }
}

/// `above`: the definitions this one is part of. One that is part of itself is of any type there.
fn of_definition(definition: &'static Definition, above: &mut Vec<&'static str>) -> Type {
    if !definition.is_struct() {
        return of(&definition.type_, above);
    }
    if above.contains(&definition.name) {
        return Type::DYN;
    }
    above.push(definition.name);
    let fields = definition.properties.iter().map(|property| {
        let ty = match property.reference {
            // Numbers or text, as it pleases the writer.
            Some(name) if name.ends_with(".Quantity") || name.ends_with(".IntOrString") => Type::DYN,
            _ => of(&property.type_, above),
        };
        (property.name.to_owned(), ty)
    });
    let fields: Vec<(String, Type)> = fields.collect();
    above.pop();
    Type::object(ObjectType::new(definition.name, fields))
}

fn of(type_: &Schema, above: &mut Vec<&'static str>) -> Type {
    match type_ {
        Schema::String => Type::STRING,
        Schema::Bytes => Type::Bytes(Size::UNKNOWN),
        Schema::Time => Type::Timestamp,
        Schema::Boolean => Type::Bool,
        Schema::Int32 | Schema::Int64 => Type::Int,
        Schema::Double => Type::Double,
        Schema::Quantity | Schema::IntOrString | Schema::Object | Schema::Any => Type::DYN,
        Schema::List(items) => Type::list_of(of(items, above), Size::UNKNOWN, ListKind::Atomic),
        Schema::Map(values) => Type::map(Type::STRING, of(values, above)),
        Schema::Struct(_) => type_.definition().map_or(Type::DYN, |own| of_definition(own, above)),
    }
}
