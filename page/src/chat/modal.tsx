// A dialogue above the page. The browser keeps the keyboard in it, and gives it back to where it was.
import type { ComponentChildren } from "preact";
import { useLayoutEffect, useRef } from "preact/hooks";
import { t } from "../texts.ts";
import { IconButton } from "./icons.tsx";
import { said } from "./said.ts";

interface Props {
  id: string;
  title: string;
  children: ComponentChildren;
  onClose: () => void;
}

export function Modal({ id, title, children, onClose }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  // At once: the next key is meant for it already, and the focus goes back to where it is now.
  useLayoutEffect(() => {
    box.current?.showModal();
  }, []);
  return (
    <dialog
      id={id}
      ref={box}
      class="modal"
      aria-labelledby={`${id}-title`}
      onClose={onClose}
      // Escape closes it and stops no answer.
      onKeyDown={(event) => event.key === "Escape" && event.stopPropagation()}
    >
      <div class="modal-head">
        <h2 id={`${id}-title`}>{title}</h2>
        <IconButton icon="close" label={t("close")} onClick={() => box.current?.close()} />
      </div>
      {children}
      {/* What lies below is out of a screen reader's reach. */}
      <div class="hidden" aria-live="polite" aria-atomic="true">
        {said.value}
      </div>
    </dialog>
  );
}
