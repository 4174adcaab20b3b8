"""The public functions of byzbench, which `byzbench` itself exports."""
