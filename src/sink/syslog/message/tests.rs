//! Headers and bodies, field by field.
