//! The collisionless growing embedding table with sparse Adagrad.
