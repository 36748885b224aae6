"""Which scope each method needs.

A method that is not listed is refused to everyone but `admin`, so that a new
one is closed until somebody decides. Health checks are open: load balancers
and kubelets can't send tokens, and the answer says nothing of users.
"""

RANK = "rank"
FEEDBACK = "feedback"
USER_READ = "user:read"
USER_DELETE = "user:delete"
STATUS = "status"
# Everything, reflection included.
ADMIN = "admin"
SCOPES = (RANK, FEEDBACK, USER_READ, USER_DELETE, STATUS, ADMIN)

_OPEN_SERVICES = ("/grpc.health.v1.Health/",)
_SCOPE_OF_METHOD = {
    "/adaptower.v1.Recommender/Rank": RANK,
    "/adaptower.v1.Recommender/Recommend": RANK,
    "/adaptower.v1.Recommender/SubmitFeedback": FEEDBACK,
    "/adaptower.v1.Recommender/GetUser": USER_READ,
    "/adaptower.v1.Recommender/DeleteUser": USER_DELETE,
    "/adaptower.v1.Recommender/GetStatus": STATUS,
    "/tensorflow.serving.PredictionService/Predict": RANK,
    "/tensorflow.serving.PredictionService/GetModelMetadata": STATUS,
    "/tensorflow.serving.ModelService/GetModelStatus": STATUS,
}


def is_open(method: str) -> bool:
    """Whether a method, `/package.Service/Method`, needs no token."""
    return method.startswith(_OPEN_SERVICES)


def needed_scope(method: str) -> str:
    """Returns the scope that a method, `/package.Service/Method`, needs."""
    return _SCOPE_OF_METHOD.get(method, ADMIN)
