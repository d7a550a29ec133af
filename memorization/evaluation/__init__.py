"""From answers to statistics: metrics, intervals, controls, probes, the verdict, the audit."""
