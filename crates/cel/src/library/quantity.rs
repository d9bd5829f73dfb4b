//! Amounts of resources (`100m`, `1Gi`).

use api::quantity::{Amount, Format};

use super::text;
use crate::error::EvalError;
use crate::functions::{Declaration, Outcome};
use crate::value::{Thing, Value};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    ("quantity string_to_quantity (string) Quantity", |args| match Amount::parse(text(args, 0)?) {
        Ok(amount) => Ok(Value::thing(Thing::Quantity(amount))),
        Err(error) => Err(EvalError::runtime(error.to_string())),
    }),
    ("isQuantity is_quantity_string (string) bool", |args| Ok(Value::Bool(Amount::parse(text(args, 0)?).is_ok()))),
    ("sign quantity_sign (Quantity) int", sign),
    ("sign quantity_member_sign Quantity.() int", sign),
    ("isGreaterThan quantity_is_greater_than Quantity.(Quantity) bool", |args| {
        Ok(Value::Bool(amount(args, 0)? > amount(args, 1)?))
    }),
    ("isLessThan quantity_is_less_than Quantity.(Quantity) bool", |args| {
        Ok(Value::Bool(amount(args, 0)? < amount(args, 1)?))
    }),
    ("compareTo quantity_compare_to Quantity.(Quantity) int", |args| {
        Ok(Value::Int(amount(args, 0)?.cmp(&amount(args, 1)?) as i64))
    }),
    ("asApproximateFloat quantity_get_float Quantity.() double", |args| Ok(Value::Double(amount(args, 0)?.as_f64()))),
    ("asInteger quantity_get_int Quantity.() int", |args| {
        integer(amount(args, 0)?).map(Value::Int).ok_or_else(|| EvalError::runtime("cannot convert value to integer"))
    }),
    ("isInteger quantity_is_integer Quantity.() bool", |args| Ok(Value::Bool(integer(amount(args, 0)?).is_some()))),
    ("add quantity_add Quantity.(Quantity) Quantity", |args| sum(amount(args, 0)?, amount(args, 1)?)),
    ("add quantity_add_int Quantity.(int) Quantity", |args| sum(amount(args, 0)?, amount(args, 1)?)),
    ("sub quantity_sub Quantity.(Quantity) Quantity", |args| sum(amount(args, 0)?, -amount(args, 1)?)),
    ("sub quantity_sub_int Quantity.(int) Quantity", |args| sum(amount(args, 0)?, -amount(args, 1)?)),
];

fn amount(args: &[Value<'_>], at: usize) -> Result<Amount, EvalError> {
    match args.get(at) {
        Some(Value::Opaque(thing)) => match &**thing {
            Thing::Quantity(amount) => Ok(*amount),
            _ => Err(EvalError::no_overload()),
        },
        Some(Value::Int(units)) if at > 0 => Ok(Amount::new(*units, Format::DecimalExponent)),
        _ => Err(EvalError::no_overload()),
    }
}

fn sum<'a>(a: Amount, b: Amount) -> Outcome<'a> {
    Ok(Value::thing(Thing::Quantity(a + b)))
}

fn sign<'a>(args: &[Value<'a>]) -> Outcome<'a> {
    let amount = amount(args, 0)?;
    Ok(Value::Int(if amount.is_zero() { 0 } else { 1 - 2 * i64::from(amount.is_negative()) }))
}

/// The amount if it is a whole number of 64 bits.
fn integer(amount: Amount) -> Option<i64> {
    let value = amount.value();
    (Amount::new(value, amount.format()) == amount).then_some(value)
}
