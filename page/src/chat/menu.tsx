// A menu of what can be done with one thing: one for the whole page, however many things there are.
import { signal } from "@preact/signals";
import { useLayoutEffect, useRef } from "preact/hooks";
import { Icon, type IconName } from "./icons.tsx";

export interface Action {
  label: string;
  run: () => void;
  danger?: boolean;
}

interface Open {
  button: HTMLElement;
  label: string;
  actions: Action[];
}

const open = signal<Open | null>(null);

interface Props {
  label: string;
  // Asked when the menu opens.
  actions: () => Action[];
  icon?: IconName;
}

export function MenuButtonOf({ label, actions, icon = "more" }: Props) {
  const show = (event: MouseEvent) => {
    event.stopPropagation();
    open.value = { button: event.currentTarget as HTMLElement, label, actions: actions() };
  };
  return (
    <button
      type="button"
      class="icon-button small more"
      title={label}
      aria-label={label}
      aria-haspopup="menu"
      onClick={show}
    >
      <Icon name={icon} />
    </button>
  );
}

// Beside its button, within the window.
function place(menu: HTMLElement, button: HTMLElement): void {
  const at = button.getBoundingClientRect();
  const { offsetWidth: width, offsetHeight: height } = menu;
  const left = Math.min(at.left, window.innerWidth - width - 8);
  const below = at.bottom + height + 8 < window.innerHeight;
  menu.style.left = `${Math.max(8, left)}px`;
  // The button itself may have left the window since.
  const top = Math.min(below ? at.bottom + 4 : at.top - height - 4, window.innerHeight - height - 8);
  menu.style.top = `${Math.max(8, top)}px`;
}

function step(menu: HTMLElement, event: KeyboardEvent): void {
  const items = [...menu.querySelectorAll<HTMLElement>("[role=menuitem]")];
  const at = items.indexOf(document.activeElement as HTMLElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
  if (event.key === "Tab") menu.hidePopover();
  if (to === undefined) return;
  event.preventDefault();
  items.at(to % items.length)?.focus();
}

export function MenuHost() {
  const menu = useRef<HTMLDivElement>(null);
  const shown = open.value;
  useLayoutEffect(() => {
    const box = menu.current;
    if (!box || !shown) return;
    box.showPopover();
    place(box, shown.button);
    box.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    const again = () => place(box, shown.button);
    window.addEventListener("resize", again);
    return () => window.removeEventListener("resize", again);
  }, [shown]);
  const choose = (action: Action) => {
    // The focus goes back to the button, from which what follows may take it on.
    menu.current?.hidePopover();
    shown?.button.focus();
    action.run();
  };
  return (
    <div
      ref={menu}
      id="actions"
      class="menu-box"
      popover="auto"
      role="menu"
      tabIndex={-1}
      aria-label={shown?.label ?? ""}
      onKeyDown={(event) => {
        // Escape closes this, and nothing else.
        event.stopPropagation();
        step(event.currentTarget, event);
      }}
      onToggle={(event) => {
        if (event.newState === "closed" && open.value === shown) open.value = null;
      }}
    >
      {shown?.actions.map((action) => (
        <button
          key={action.label}
          type="button"
          role="menuitem"
          class={action.danger ? "danger" : ""}
          onClick={() => choose(action)}
        >
          {action.label}
        </button>
      ))}
    </div>
  );
}
