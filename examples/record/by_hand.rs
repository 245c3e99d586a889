pub(crate) fn record() {}
