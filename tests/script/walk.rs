//! Random walks over the same stage.
