"""From a configuration to a run: started, resumed, forked, or reproduced."""
