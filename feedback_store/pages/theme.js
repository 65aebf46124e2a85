// Runs before the first paint (a classic script in <head>), so that a chosen theme never flashes the other one.
"use strict";
(() => {
  const key = "thumbwise.theme";
  const read = () => {
    try {
      return localStorage.getItem(key);
    } catch {
      return null; // storage is switched off: follow the system
    }
  };
  const apply = (theme) => {
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
    else delete document.documentElement.dataset.theme;
  };
  apply(read());
  // The pages' own control is a <select data-theme-switch> with the values "", "light" and "dark".
  document.addEventListener("DOMContentLoaded", () => {
    for (const control of document.querySelectorAll("[data-theme-switch]")) {
      control.value = read() ?? "";
      control.addEventListener("change", () => {
        apply(control.value);
        try {
          if (control.value) localStorage.setItem(key, control.value);
          else localStorage.removeItem(key);
        } catch {
          // storage is switched off: the choice lasts as long as the page
        }
      });
    }
  });
})();
