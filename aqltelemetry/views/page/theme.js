(() => {
  // Before the first paint, so that the page does not flash in the other theme.
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const show = () => {
    root.dataset.theme = root.dataset.choice === "auto" ? (dark.matches ? "dark" : "light") : root.dataset.choice;
  };
  let choice = null;
  try {
    choice = localStorage.getItem("aqltelemetry-theme");
  } catch {
    // A browser may forbid storage to files.
  }
  root.dataset.choice = choice === "light" || choice === "dark" ? choice : "auto";
  show();
  dark.addEventListener("change", show);
})();
