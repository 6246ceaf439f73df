"""CPU engine: augmented-Lagrangian Gauss-Newton over stages, one sample a thread, float64.

Problem (z_t = (x_t, u_t), t = 0..T-1, x_0 fixed):

    min  1/2 sum_t |x_t - x_ref_t|^2_{q_t} + |u_t - u_ref_t|^2_{r_t}
    s.t. k_t = (x_{t+1} - F(x_t, u_t)) / s_x = 0                          F: Runge-Kutta 4 over dt
         h: (z - upper) / s_z <= 0,  (lower - z) / s_z <= 0,  radius - |pos_t - centre_t| <= 0

    L = cost + eta^T k + mu/2 |k|^2 + 1/(2 mu) sum (max(0, lambda + mu h)^2 - lambda^2)

Algorithm 1 of Gurumurthy et al., DEQ-MPC (CoRL 2025), with the penalty capped, and line search and stopping decided per
sample. s is the model's natural scale, so that one penalty serves metres and newtons.

These files are a template: ``solver/generate.py`` copies the folder with ``slot.py`` replaced by a printed model, which
makes the dimensions compile-time constants and gives every model a disk cache of machine code of its own.
"""
