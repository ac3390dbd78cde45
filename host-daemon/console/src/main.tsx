import { render } from "preact";
import { Console } from "./console.tsx";
import "./styles.css";

const root = document.getElementById("app");
if (root === null) throw new Error("index.html lacks #app");
render(<Console />, root);
