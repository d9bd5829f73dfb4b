//! Types that are not known yet, and what is found out about them.

use std::sync::Arc;

use crate::types::{ListType, MapType, Type};

/// Variables are numbered types ([`Type::Param`]) from [`Unifier::FIRST`] on; below are those of declarations.
#[derive(Debug, Default)]
pub(crate) struct Unifier {
    found: Vec<Option<Type>>,
}

/// Fresh variables in place of a declaration's `A` and `B`.
pub(crate) struct Fresh {
    start: u32,
}

impl Fresh {
    pub fn instance(&self, ty: &Type) -> Type {
        replace(ty, &|index| Type::Param(if index < Unifier::FIRST { self.start + index } else { index }))
    }
}

fn replace(ty: &Type, with: &dyn Fn(u32) -> Type) -> Type {
    match ty {
        Type::Param(index) => with(*index),
        Type::List(list) => Type::List(Arc::new(ListType {
            elem: replace(&list.elem, with),
            max_items: list.max_items,
            kind: list.kind.clone(),
        })),
        Type::Map(map) => Type::Map(Arc::new(MapType {
            key: replace(&map.key, with),
            value: replace(&map.value, with),
            max_properties: map.max_properties,
        })),
        Type::Optional(inner) => Type::optional(replace(inner, with)),
        Type::Type(inner) => Type::Type(Arc::new(replace(inner, with))),
        other => other.clone(),
    }
}

fn has_params(ty: &Type) -> bool {
    match ty {
        Type::Param(_) => true,
        Type::List(list) => has_params(&list.elem),
        Type::Map(map) => has_params(&map.key) || has_params(&map.value),
        Type::Optional(inner) | Type::Type(inner) => has_params(inner),
        _ => false,
    }
}

impl Unifier {
    const FIRST: u32 = 2;

    pub fn fresh(&mut self, count: usize) -> Fresh {
        let start = self.found.len() as u32 + Self::FIRST;
        self.found.resize(self.found.len() + count, None);
        Fresh { start }
    }

    /// What is known now, to go back to.
    pub fn save(&self) -> Vec<Option<Type>> {
        self.found.clone()
    }

    pub fn restore(&mut self, saved: Vec<Option<Type>>) {
        self.found = saved;
    }

    fn known(&self, index: u32) -> Option<&Type> {
        self.found.get(index.checked_sub(Self::FIRST)? as usize)?.as_ref()
    }

    /// The type itself where it is a variable of which something is known.
    pub fn resolved(&self, ty: &Type) -> Type {
        let mut ty = ty;
        while let Type::Param(index) = ty {
            match self.known(*index) {
                Some(known) => ty = known,
                None => break,
            }
        }
        ty.clone()
    }

    pub fn resolved_deep(&self, ty: &Type) -> Type {
        if !has_params(ty) {
            return ty.clone();
        }
        replace(ty, &|index| match self.known(index) {
            Some(known) => self.resolved_deep(known),
            None => Type::Param(index),
        })
    }

    /// With dyn for what never became known.
    pub fn finished(&self, ty: &Type) -> Type {
        if !has_params(ty) {
            return ty.clone();
        }
        replace(ty, &|index| match self.known(index) {
            Some(known) => self.finished(known),
            None => Type::DYN,
        })
    }

    fn occurs(&self, index: u32, ty: &Type) -> bool {
        match ty {
            Type::Param(other) => *other == index || self.known(*other).is_some_and(|known| self.occurs(index, known)),
            Type::List(list) => self.occurs(index, &list.elem),
            Type::Map(map) => self.occurs(index, &map.key) || self.occurs(index, &map.value),
            Type::Optional(inner) | Type::Type(inner) => self.occurs(index, inner),
            _ => false,
        }
    }

    /// Whether a value of type `found` may stand where `expected` is asked for. Learns what variables are by it.
    pub fn assignable(&mut self, expected: &Type, found: &Type) -> bool {
        let (expected, found) = (self.resolved(expected), self.resolved(found));
        match (&expected, &found) {
            (Type::Param(a), Type::Param(b)) if a == b => true,
            (Type::Param(index), other) | (other, Type::Param(index)) => {
                if self.occurs(*index, other) {
                    return false;
                }
                let at = index.checked_sub(Self::FIRST).map(|at| at as usize);
                match at.and_then(|at| self.found.get_mut(at)) {
                    Some(place) => {
                        *place = Some(other.clone());
                        true
                    }
                    None => false,
                }
            }
            (a, b) if a.is_dyn() || b.is_dyn() => true,
            (Type::List(a), Type::List(b)) => self.assignable(&a.elem, &b.elem),
            (Type::Map(a), Type::Map(b)) => self.assignable(&a.key, &b.key) && self.assignable(&a.value, &b.value),
            (Type::Optional(a), Type::Optional(b)) => self.assignable(a, b),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::Null, other) | (other, Type::Null) => {
                matches!(other, Type::Null | Type::Object(_) | Type::Duration | Type::Timestamp | Type::Opaque(_))
            }
            (a, b) => a == b,
        }
    }

    /// Of two types that go together the one that takes both.
    pub fn wider(&self, a: &Type, b: &Type) -> Type {
        let (left, right) = (self.resolved_deep(a), self.resolved_deep(b));
        match (left, right) {
            (a, _) if matches!(a, Type::Dyn(_)) => a,
            (_, b) if matches!(b, Type::Dyn(_)) => b,
            (Type::Null, b) => b,
            (Type::List(a), Type::List(b)) => Type::list(self.wider(&a.elem, &b.elem)),
            (Type::Map(a), Type::Map(b)) => Type::map(self.wider(&a.key, &b.key), self.wider(&a.value, &b.value)),
            (a, _) => a,
        }
    }
}
