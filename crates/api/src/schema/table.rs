//! The table's text to definitions.

use std::collections::HashMap;

use super::{Definition, DefinitionId, ListType, Property, Type};

/// Parses the table. The text is ours, so what does not fit is a mistake in the file and ends the process in any test.
pub(super) fn parse(text: &'static str) -> Vec<Definition> {
    let lines = || text.lines().filter(|line| !line.starts_with('#'));
    let names = lines().filter(|line| !line.starts_with('\t')).filter_map(|line| line.split('\t').next());
    let index: HashMap<&str, usize> = names.enumerate().map(|(index, name)| (name, index)).collect();
    let mut scalars = HashMap::new();
    for line in lines().filter(|line| !line.starts_with('\t')) {
        if let [name, type_, ..] = columns(line)[..]
            && type_ != "struct"
        {
            scalars.insert(name, type_);
        }
    }
    let resolve = Resolve { index: &index, scalars: &scalars };
    let mut definitions: Vec<Definition> = Vec::with_capacity(index.len());
    for line in lines() {
        match line.strip_prefix('\t') {
            None => definitions.push(resolve.definition(&columns(line))),
            Some(line) => {
                let definition = definitions.last_mut().expect("properties follow their definition");
                definition.properties.push(resolve.property(&columns(line)));
            }
        }
    }
    definitions
}

/// A line's columns, with empty ones for those left off at the end.
fn columns(line: &'static str) -> [&'static str; 8] {
    let mut columns = [""; 8];
    for (column, text) in columns.iter_mut().zip(line.split('\t')) {
        *column = text;
    }
    columns
}

struct Resolve<'a> {
    index: &'a HashMap<&'static str, usize>,
    scalars: &'a HashMap<&'static str, &'static str>,
}

impl Resolve<'_> {
    fn definition(&self, columns: &[&'static str; 8]) -> Definition {
        let [name, _, map_type, kinds, ..] = *columns;
        let kind = |text: &'static str| {
            let mut parts = text.split('/');
            let mut part = || parts.next().expect("a kind is group/version/kind");
            (part(), part(), part())
        };
        Definition {
            name,
            type_: self.named(name),
            map_atomic: map_type == "atomic",
            kinds: kinds.split(',').filter(|text| !text.is_empty()).map(kind).collect(),
            properties: Vec::new(),
        }
    }

    fn property(&self, columns: &[&'static str; 8]) -> Property {
        let [name, type_, required, list_type, keys, map_type, patch_strategy, patch_merge_key] = *columns;
        Property {
            name,
            type_: self.type_(type_),
            reference: type_.strip_prefix('#'),
            required: required == "required",
            kept: required == "kept",
            list_type: match list_type {
                "" => None,
                "atomic" => Some(ListType::Atomic),
                "set" => Some(ListType::Set),
                "map" => Some(ListType::Map),
                other => panic!("list type {other}"),
            },
            list_map_keys: keys.split(',').filter(|key| !key.is_empty()).collect(),
            map_atomic: map_type == "atomic",
            patch_strategy,
            patch_merge_key,
        }
    }

    fn named(&self, name: &str) -> Type {
        match self.scalars.get(name) {
            Some(type_) => self.type_(type_),
            None => {
                Type::Struct(DefinitionId(*self.index.get(name).expect("the table names only its own definitions")))
            }
        }
    }

    fn type_(&self, text: &'static str) -> Type {
        if let Some(name) = text.strip_prefix('#') {
            return self.named(name);
        }
        if let Some(item) = text.strip_prefix("[]") {
            return Type::List(Box::new(self.type_(item)));
        }
        if let Some(value) = text.strip_prefix("{}") {
            return Type::Map(Box::new(self.type_(value)));
        }
        match text {
            "string" => Type::String,
            "string:byte" => Type::Bytes,
            "string:date-time" => Type::Time,
            "boolean" => Type::Boolean,
            "integer:int32" => Type::Int32,
            "integer:int64" => Type::Int64,
            "number:double" => Type::Double,
            "quantity" => Type::Quantity,
            "int-or-string" => Type::IntOrString,
            "object" => Type::Object,
            "any" => Type::Any,
            other => panic!("type {other}"),
        }
    }
}
