// Where the keyboard goes on after what it was on has gone.
export function focusInput(): void {
  document.getElementById("input")?.focus();
}
