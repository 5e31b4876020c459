// Modifiers, aliases, constants, a loop, a trainable parameter, conditions on bits.
OPENQASM 3.0;
include "stdgates.inc";
const int n = 4;
const float step = pi / 4;
input float[64] theta;
qubit[n] q;
qubit ancilla;
bit[n] c;
bit done;
let ends = q[0] ++ q[n - 1];
gate twist(a) p, r { ctrl @ rx(a) p, r; inv @ s p; pow(0.5) @ x r; negctrl @ gphase(a) p; }
for int i in [0:n - 2] {
  h q[i];
  cp(step * i) q[i], q[i + 1];
}
twist(2 * theta - step) q[0], ancilla;
inv @ twist(step) ends[0], ends[1];
ctrl(2) @ negctrl @ U(0.1, 0.2, 0.3) q[0], q[1], q[2], ancilla;
pow(-2) @ rz(theta) q[1:3];
c[0] = measure q[0];
done = measure ancilla;
if (c[0]) { x q[1]; reset q[0]; } else { z q[1]; }
if (!done && c[0] == true) { y q[2]; }
c = measure q;
