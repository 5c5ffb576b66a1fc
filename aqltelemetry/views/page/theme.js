(() => {
  // Before the first paint, so that the page does not flash in the other theme.
  let theme = null;
  try {
    theme = localStorage.getItem("aqltelemetry-theme");
  } catch {
    // A browser may forbid storage to files.
  }
  if (theme === "light" || theme === "dark") {
    document.documentElement.dataset.theme = theme;
  }
})();
