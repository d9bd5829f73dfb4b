//! Walks a checked expression: each node gives a value or an error, and what it costs is counted as cel-go counts.

use std::sync::Arc;

use crate::ast::FoldKind;
use crate::environment::Resolve;
use crate::error::EvalError;
use crate::functions::{Outcome, Overload, accepts};
use crate::node::{Access, FoldNode, Node, NodeKind, Operator};
use crate::operators;
use crate::runtime_cost;
use crate::value::{Entries, List, Map, Value};

pub(crate) struct Evaluation<'e, 'a> {
    resolve: &'e dyn Resolve<'a>,
    names: &'e [String],
    /// What the variables turned out to be.
    known: Vec<Option<Value<'a>>>,
    locals: Vec<Value<'a>>,
    cost: u64,
    budget: u64,
}

impl<'e, 'a> Evaluation<'e, 'a> {
    pub fn new(resolve: &'e dyn Resolve<'a>, names: &'e [String], slots: usize, budget: u64) -> Self {
        Evaluation { resolve, names, known: vec![None; names.len()], locals: vec![Value::Null; slots], cost: 0, budget }
    }

    pub fn cost(&self) -> u64 {
        self.cost
    }

    fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.budget { Err(EvalError::CostExceeded) } else { Ok(()) }
    }

    pub fn value(&mut self, node: &Node) -> Outcome<'a> {
        match &node.kind {
            NodeKind::Const(value) => Ok(value.clone()),
            NodeKind::Variable { index, dots } => {
                self.charge(1 + dots)?;
                self.variable(*index)
            }
            NodeKind::Local(slot) => {
                self.charge(1)?;
                Ok(self.locals[*slot].clone())
            }
            NodeKind::Select { operand, name, plain, access } => self.select(operand, name, plain, *access),
            NodeKind::Index { operand, index, optional } => self.index(operand, index, *optional),
            NodeKind::Operator { operator, args } => self.operator(*operator, args),
            NodeKind::And(terms) => self.logic(terms, false),
            NodeKind::Or(terms) => self.logic(terms, true),
            NodeKind::Conditional(parts) => match self.value(&parts[0])? {
                Value::Bool(true) => self.value(&parts[1]),
                Value::Bool(false) => self.value(&parts[2]),
                _ => Err(EvalError::no_overload()),
            },
            NodeKind::List(items) => self.list(items),
            NodeKind::Map(entries) => self.map(entries),
            NodeKind::Struct { name, fields } => self.construct(name, fields),
            NodeKind::Call { overloads, args, pattern } => self.call(overloads, args, pattern.as_deref()),
            NodeKind::Else { optional, other, value } => self.or_else(optional, other, *value),
            NodeKind::Fold(fold) => self.fold(fold),
        }
    }

    fn operator(&mut self, operator: Operator, args: &[Node]) -> Outcome<'a> {
        let left = self.value(&args[0])?;
        let Some(right) = args.get(1) else {
            self.charge(1)?;
            return operators::unary(operator, &left);
        };
        let right = self.value(right)?;
        self.charge(runtime_cost::of_operator(operator, &left, &right))?;
        operators::binary(operator, left, right)
    }

    fn or_else(&mut self, optional: &Node, other: &Node, value: bool) -> Outcome<'a> {
        let Value::Optional(found) = self.value(optional)? else { return Err(EvalError::no_overload()) };
        self.charge(1)?;
        match found {
            Some(inner) if value => Ok((*inner).clone()),
            Some(inner) => Ok(Value::Optional(Some(inner))),
            None => self.value(other),
        }
    }

    fn variable(&mut self, index: usize) -> Outcome<'a> {
        if let Some(known) = &self.known[index] {
            return Ok(known.clone());
        }
        let name = &self.names[index];
        let value = match self.resolve.get(name) {
            Some(found) => found?,
            None => return Err(EvalError::runtime(format!("no such attribute(s): {name}"))),
        };
        self.known[index] = Some(value.clone());
        Ok(value)
    }

    fn select(&mut self, operand: &Node, name: &str, plain: &str, access: Access) -> Outcome<'a> {
        let value = self.value(operand)?;
        if access == Access::Test {
            // looking whether something is there costs nothing, nor does the variable it is looked for in
            if matches!(operand.kind, NodeKind::Variable { .. } | NodeKind::Local(_)) {
                self.cost -= 1;
            }
        } else {
            self.charge(1)?;
        }
        let wrapped = match &value {
            Value::Optional(None) if access == Access::Test => return Ok(Value::Bool(false)),
            Value::Optional(None) => return Ok(value),
            Value::Optional(Some(inner)) => Some(inner.clone()),
            _ => None,
        };
        let Value::Map(map) = wrapped.as_deref().unwrap_or(&value) else {
            return match (access, &value) {
                (_, Value::Null | Value::Bool(_) | Value::Int(_) | Value::String(_)) => Err(EvalError::no_key(name)),
                _ => Err(EvalError::no_overload()),
            };
        };
        match (map.select(name, plain), access) {
            (found, Access::Test) => Ok(Value::Bool(found.is_some())),
            (Some(found), Access::Plain) if wrapped.is_none() => Ok(found),
            (Some(found), _) => Ok(Value::some(found)),
            (None, Access::Plain) if wrapped.is_none() => Err(EvalError::no_key(name)),
            (None, _) => Ok(Value::Optional(None)),
        }
    }

    fn index(&mut self, operand: &Node, index: &Node, optional: bool) -> Outcome<'a> {
        let value = self.value(operand)?;
        let index = self.value(index)?;
        self.charge(1)?;
        match value {
            Value::Optional(None) => Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => operators::index_optional(&inner, &index),
            value if optional => operators::index_optional(&value, &index),
            value => operators::index(&value, &index),
        }
    }

    /// `&&` and `||`: an operand that decides hides the errors of the others.
    fn logic(&mut self, terms: &[Node], decisive: bool) -> Outcome<'a> {
        let mut failed = None;
        for term in terms {
            match self.value(term) {
                Ok(Value::Bool(value)) if value == decisive => return Ok(Value::Bool(decisive)),
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::no_overload())),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn list(&mut self, items: &[(Node, bool)]) -> Outcome<'a> {
        let mut values = Vec::with_capacity(items.len());
        for (item, optional) in items {
            let value = self.value(item)?;
            if let Some(value) = present(value, *optional)? {
                values.push(value);
            }
        }
        self.charge(runtime_cost::LIST)?;
        Ok(Value::list(values))
    }

    fn map(&mut self, entries: &[(Node, Node, bool)]) -> Outcome<'a> {
        let mut map = Entries::default();
        for (key, value, optional) in entries {
            let key = self.value(key)?;
            let value = self.value(value)?;
            if let Some(value) = present(value, *optional)? {
                insert(&mut map, key, value)?;
            }
        }
        self.charge(runtime_cost::MAP)?;
        Ok(Value::Map(Map::Entries(Arc::new(map))))
    }

    fn construct(&mut self, name: &Arc<str>, fields: &[(Arc<str>, Node, bool)]) -> Outcome<'a> {
        let mut object = Entries::object(name.clone());
        for (field, value, optional) in fields {
            let value = self.value(value)?;
            if let Some(value) = present(value, *optional)? {
                insert(&mut object, Value::string(field.clone()), value)?;
            }
        }
        self.charge(runtime_cost::STRUCT)?;
        Ok(Value::Map(Map::Entries(Arc::new(object))))
    }

    fn call(&mut self, overloads: &[&'static Overload], args: &[Node], pattern: Option<&regex::Regex>) -> Outcome<'a> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.value(arg)?);
        }
        let fits = |overload: &&&Overload| overload.params.iter().zip(&values).all(|(ty, value)| accepts(ty, value));
        let overload = match overloads {
            [only] => *only,
            several => *several.iter().find(fits).ok_or_else(EvalError::no_overload)?,
        };
        if let Some(cost) = runtime_cost::before_call(overload, &values) {
            self.charge(cost)?;
        }
        let result = match pattern {
            Some(pattern) => crate::library::regex::run(overload.function, pattern, &values),
            None => (overload.run)(&values),
        }?;
        self.charge(runtime_cost::of_call(overload, &values, &result))?;
        Ok(result)
    }

    fn fold(&mut self, fold: &FoldNode) -> Outcome<'a> {
        let range = self.value(&fold.range)?;
        match fold.kind {
            FoldKind::OptMap | FoldKind::OptFlatMap => return self.optional_map(fold, range),
            FoldKind::Map | FoldKind::Filter => self.charge(runtime_cost::LIST)?,
            FoldKind::TransformMap | FoldKind::TransformMapEntry => self.charge(runtime_cost::MAP)?,
            _ => {}
        }
        let pairs = Pairs::of(range, fold.second.is_some())?;
        let result = match fold.kind {
            FoldKind::All => self.decide(fold, &pairs, false),
            FoldKind::Exists => self.decide(fold, &pairs, true),
            FoldKind::ExistsOne => self.count(fold, &pairs),
            FoldKind::Map | FoldKind::Filter => self.collect(fold, &pairs),
            _ => self.transform(fold, &pairs),
        }?;
        self.charge(1)?;
        Ok(result)
    }

    fn bind(&mut self, fold: &FoldNode, pairs: &Pairs<'a>, at: usize) {
        let (first, second) = pairs.get(at);
        self.locals[fold.first] = first;
        if let (Some(slot), Some(second)) = (fold.second, second) {
            self.locals[slot] = second;
        }
    }

    fn decide(&mut self, fold: &FoldNode, pairs: &Pairs<'a>, decisive: bool) -> Outcome<'a> {
        // what the loop's own condition and step cost each time
        let (condition, step) = if decisive { (3, 1) } else { (2, 1) };
        let mut failed = None;
        for at in 0..pairs.len() {
            self.bind(fold, pairs, at);
            self.charge(condition + step)?;
            match self.value(&fold.body) {
                Ok(Value::Bool(value)) if value == decisive => {
                    if at + 1 < pairs.len() {
                        self.charge(condition)?;
                    }
                    return Ok(Value::Bool(decisive));
                }
                Ok(Value::Bool(_)) => {}
                Ok(_) => failed = failed.or(Some(EvalError::no_overload())),
                Err(EvalError::CostExceeded) => return Err(EvalError::CostExceeded),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decisive)), Err)
    }

    fn holds(&mut self, test: &Node) -> Result<bool, EvalError> {
        self.value(test)?.as_bool().ok_or_else(EvalError::no_overload)
    }

    fn count(&mut self, fold: &FoldNode, pairs: &Pairs<'a>) -> Outcome<'a> {
        let mut count = 0;
        for at in 0..pairs.len() {
            self.bind(fold, pairs, at);
            let found = self.holds(&fold.body)?;
            count += usize::from(found);
            self.charge(if found { 2 } else { 1 })?;
        }
        self.charge(1)?;
        Ok(Value::Bool(count == 1))
    }

    fn collect(&mut self, fold: &FoldNode, pairs: &Pairs<'a>) -> Outcome<'a> {
        let mut values = Vec::new();
        for at in 0..pairs.len() {
            self.bind(fold, pairs, at);
            let test = if fold.kind == FoldKind::Filter { Some(&fold.body) } else { fold.filter.as_ref() };
            if let Some(test) = test
                && !self.holds(test)?
            {
                self.charge(1)?;
                continue;
            }
            let value = match fold.kind {
                FoldKind::Filter => {
                    self.charge(1)?;
                    pairs.get(at).0
                }
                _ => self.value(&fold.body)?,
            };
            self.charge(runtime_cost::LIST + 2)?;
            values.push(value);
        }
        Ok(Value::list(values))
    }

    fn transform(&mut self, fold: &FoldNode, pairs: &Pairs<'a>) -> Outcome<'a> {
        let mut map = Entries::default();
        for at in 0..pairs.len() {
            self.bind(fold, pairs, at);
            if let Some(test) = &fold.filter
                && !self.holds(test)?
            {
                self.charge(1)?;
                continue;
            }
            let value = self.value(&fold.body)?;
            if fold.kind == FoldKind::TransformMap {
                self.charge(3)?;
                insert(&mut map, pairs.get(at).0, value)?;
                continue;
            }
            self.charge(2)?;
            let Value::Map(entries) = value else { return Err(EvalError::no_overload()) };
            for (key, value) in entries.entries() {
                insert(&mut map, key, value)?;
            }
        }
        Ok(Value::Map(Map::Entries(Arc::new(map))))
    }

    fn optional_map(&mut self, fold: &FoldNode, range: Value<'a>) -> Outcome<'a> {
        let Value::Optional(found) = range else { return Err(EvalError::no_overload()) };
        self.charge(1)?;
        let Some(inner) = found else { return Ok(Value::Optional(None)) };
        self.locals[fold.first] = (*inner).clone();
        let value = self.value(&fold.body)?;
        self.charge(1)?;
        Ok(if fold.kind == FoldKind::OptMap { Value::some(value) } else { value })
    }
}

/// What a macro goes through.
enum Pairs<'a> {
    Items(List<'a>, bool),
    Keys(Vec<Value<'a>>),
    Entries(Vec<(Value<'a>, Value<'a>)>),
}

impl<'a> Pairs<'a> {
    fn of(range: Value<'a>, two: bool) -> Result<Self, EvalError> {
        match range {
            Value::List(list) => Ok(Pairs::Items(list, two)),
            Value::Map(map) if two => Ok(Pairs::Entries(map.entries())),
            Value::Map(map) => Ok(Pairs::Keys(map.keys())),
            _ => Err(EvalError::no_overload()),
        }
    }

    fn len(&self) -> usize {
        match self {
            Pairs::Items(items, _) => items.len(),
            Pairs::Keys(keys) => keys.len(),
            Pairs::Entries(entries) => entries.len(),
        }
    }

    fn get(&self, at: usize) -> (Value<'a>, Option<Value<'a>>) {
        match self {
            Pairs::Items(items, false) => (items.get(at).unwrap_or(Value::Null), None),
            Pairs::Items(items, true) => (Value::Int(at as i64), items.get(at)),
            Pairs::Keys(keys) => (keys[at].clone(), None),
            Pairs::Entries(entries) => (entries[at].0.clone(), Some(entries[at].1.clone())),
        }
    }
}

/// The value, or nothing where an optional one is absent.
fn present(value: Value<'_>, optional: bool) -> Result<Option<Value<'_>>, EvalError> {
    match (value, optional) {
        (value, false) => Ok(Some(value)),
        (Value::Optional(found), true) => Ok(found.map(|inner| (*inner).clone())),
        _ => Err(EvalError::no_overload()),
    }
}

fn insert<'a>(map: &mut Entries<'a>, key: Value<'a>, value: Value<'a>) -> Result<(), EvalError> {
    if !matches!(key, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_)) {
        return Err(EvalError::runtime(format!("unsupported key type: {}", key.type_name())));
    }
    let shown = operators::shown(&key);
    if map.insert(key, value) {
        Ok(())
    } else {
        Err(EvalError::runtime(format!("insert failed: key {shown} already exists")))
    }
}
